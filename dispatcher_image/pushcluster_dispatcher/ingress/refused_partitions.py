"""Which partitions RabbitMQ does not let a dispatcher consume, and for how long. Pure."""

from dataclasses import dataclass, field
from typing import Final

GRACE_S: Final = 10.0
"""A partition must be refused longer than this to be reported. A queue that elects a leader takes seconds."""


@dataclass(slots=True)
class RefusedPartitions:
    """Partitions without a consumer here, although Redis and RabbitMQ are connected.

    Another dispatcher may consume them: this one cannot know.
    """

    _since: dict[int, tuple[float, str]] = field(default_factory=dict)

    def refused(self, partition: int, reason: str, now: float) -> None:
        """Note a failed attempt at `now`, in seconds of a steady clock. The latest reason counts."""
        since, _ = self._since.get(partition, (now, ""))
        self._since[partition] = (since, reason)

    def drop(self, partition: int) -> None:
        """Note that the partition is consumed, or that something else keeps it from being consumed."""
        self._since.pop(partition, None)

    def forget(self) -> None:
        """Forget all refusals, because the connection is lost: that is another trouble."""
        self._since.clear()

    def describe(self, now: float) -> str:
        """Return in words what has been refused for longer than GRACE_S, or ""."""
        lasting = self._lasting(now)
        if not lasting:
            return ""
        partition, reason = min(lasting)
        others = f" and {len(lasting) - 1} more" if len(lasting) > 1 else ""
        return f"partition {partition}{others} could not be consumed for {GRACE_S:g} s: {reason}"

    def count(self, now: float) -> int:
        """Return how many have been refused for longer than GRACE_S."""
        return len(self._lasting(now))

    def _lasting(self, now: float) -> list[tuple[int, str]]:
        return [(partition, reason) for partition, (since, reason) in self._since.items() if now - since > GRACE_S]
