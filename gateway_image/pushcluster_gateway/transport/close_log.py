"""When the log says that connections were closed: for each cause one line in a while, with their number. No I/O."""

from collections import Counter
from typing import Final

LINE_INTERVAL_S: Final = 10.0
"""Between two lines for the same cause."""


class CloseLog:
    """Counts closes until their line is due. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next_line_at: dict[str, float] = {}

    def note(self, cause: str) -> None:
        """Note that a connection was closed. `cause` is one of the names in `close_codes`."""
        self._counts[cause] += 1

    def take_due(self, now: float) -> dict[str, int]:
        """Return, for each cause whose line is due, how many were closed since its last line. Forget these."""
        if not self._counts:
            return {}
        due = {cause: n for cause, n in self._counts.items() if now >= self._next_line_at.get(cause, now)}
        for cause in due:
            del self._counts[cause]
            self._next_line_at[cause] = now + LINE_INTERVAL_S
        return due
