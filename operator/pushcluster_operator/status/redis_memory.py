"""Whether Redis is full of messages that nobody has fetched, and what that means. Pure: `registry.py` asks it."""

from dataclasses import dataclass
from typing import Final

from pushcluster_operator.status.pods import Trouble

FULL_FROM: Final = 0.98
"""Share of `maxmemory` from which on Redis is full: it refuses a message at 1, and clients' buffers come and go."""
ROOM_BELOW: Final = 0.9
"""Share below which it is not full any more. What lies between keeps its name, so that the condition does not flap."""

REDIS_FULL: Final = Trouble(
    "RedisFull",
    "Redis is full of messages that users have not fetched yet: new ones wait in the ingress queues, and once these "
    "are full publishers are refused (nack, 503). Nothing is lost; users come in as ever, and whoever fetches messages "
    "makes room. Raise spec.redis.managed.maxMemory (at most a third of its storage), or lower ttlSeconds or "
    "maxPerDestination of spec.delivery.offline; DELETE /v1/users/{user} drops what a user will never fetch",
)


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """What Redis says of its memory, in bytes."""

    used: int = 0
    """Without the buffers that its limit does not count."""
    limit: int = 0
    """0: none."""

    def is_full(self, *, was_full: bool) -> bool:
        """Return whether Redis takes no more messages, or is about to; `was_full` is the answer before this one."""
        return self.limit > 0 and self.used >= self.limit * (ROOM_BELOW if was_full else FULL_FROM)
