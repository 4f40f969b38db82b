"""Whether Redis is full of messages that nobody has fetched, and what that means. Pure: `sweep/registry.py` asks it."""

from dataclasses import dataclass
from typing import Final

from pushcluster_operator.status.pods import Trouble

FULL_FROM: Final = 0.98
"""Redis counts as full from this share of `maxmemory` on. It refuses messages at 1, and clients' buffers vary."""
NOT_FULL_BELOW: Final = 0.9
"""Below this share, Redis no longer counts as full. Between the two, the state stays: the condition must not flap."""

REDIS_FULL: Final = Trouble(
    "RedisFull",
    "Redis is full of messages that users have not fetched yet. New messages wait in the ingress queues; when these "
    "are full, publishers are refused (nack, 503). Nothing is lost. Users can still connect, and each who fetches "
    "messages frees memory. Raise spec.redis.managed.maxMemory (at most a third of its storage), or lower ttlSeconds "
    "or maxPerDestination of spec.delivery.offline. DELETE /v1/users/{user} drops what a user will never fetch",
)


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """What Redis reports about its memory, in bytes."""

    used: int = 0
    """Without the buffers that its limit does not count."""
    limit: int = 0
    """0: no limit."""

    def is_full(self, *, was_full: bool) -> bool:
        """Return whether Redis refuses messages, or is about to. `was_full` is the previous answer."""
        return self.limit > 0 and self.used >= self.limit * (NOT_FULL_BELOW if was_full else FULL_FROM)
