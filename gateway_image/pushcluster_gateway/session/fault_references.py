"""Short ids for why requests fail. A client gets the id, and the log has the id with the reason.

The reason may name addresses and versions of services inside, so it is not for clients. When a service is away, all
requests fail for the same reason: they share one id, and one line of the log.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

REFERENCE_BYTES: Final = 4
"""Random bytes in an id."""
SHARED_S: Final = 10.0
"""For so long all failures with the same reason have the same id, from the first of them on."""
MAX_REASONS: Final = 64
"""Reasons whose ids are known. Past it, the oldest is forgotten, and gets a new id and a new line."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The id of a reason."""

    id: str
    is_new: bool
    """Whether the log does not have this id yet."""


class FaultReferences:
    """The ids of one process. No I/O. All times are seconds of one monotonic clock."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._known: dict[str, tuple[str, float]] = {}
        """By reason: its id, and when it was made. The oldest is first."""

    def refer(self, reason: str, now: float) -> Reference:
        """Return the id of a reason. The caller logs a new one, together with the reason."""
        known = self._known.get(reason)
        if known is not None and now < known[1] + SHARED_S:
            return Reference(known[0], is_new=False)
        self._known.pop(reason, None)
        if len(self._known) >= MAX_REASONS:
            del self._known[next(iter(self._known))]
        reference = self._entropy(REFERENCE_BYTES).hex()
        self._known[reason] = (reference, now)
        return Reference(reference, is_new=True)
