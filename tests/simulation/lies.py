"""A fault of clients: SUBSCRIBE with a `last-message-id` that says nothing about what the client has.

Such an id may change only the subscription that carries it. It is never proof that somebody got something, so it moves
no cursor, and the other sessions of the user, and the next ones, still get everything.
"""

import random
from typing import Any, Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from tests.support.delivery_log import Entry

LIES: Final = (
    *("from_the_future", "from_the_future", "of_this_log", "of_this_log"),
    *("of_another_log", "of_a_forgotten_log", "beside_a_real_one", "at_random"),
)
LARGEST: Final = StreamId(10**16 - 1, 10**16 - 1)
"""No id with more digits is accepted (`StreamId.parse`)."""
LIES_SHARE: Final = 0.25
"""Of all schedules, those in which some devices lie."""
MINUTE_MS: Final = 60_000


def draw_lies(world: Any, devices: int) -> "list[Lies | None]":
    """Return what each device of a schedule claims; None: it is honest.

    All of it is drawn apart, so that a schedule without lies stays the one that it was.
    """
    drawn = random.Random(f"lies of {world.seed}")
    if drawn.random() >= LIES_SHARE:
        return [None] * devices
    return [Lies(world, drawn, share=drawn.choice((0.0, 0.5, 1.0))) for _ in range(devices)]


class Lies:
    """What a device claims to have."""

    def __init__(self, world: Any, drawn: random.Random, share: float) -> None:
        """`share` is that of the SUBSCRIBE frames which lie."""
        self._world = world
        self._drawn = drawn
        self._share = share

    def claim(self, user: str, destination: str) -> StreamId | None:
        """Return the id to send, or None to send the true one this time."""
        if self._drawn.random() >= self._share:
            return None
        lie: StreamId = getattr(self, f"_{self._drawn.choice(LIES)}")(self._key(user, destination))
        return lie

    def _from_the_future(self, log_key: str) -> StreamId:
        newest = self._newest(log_key)
        ahead_ms, ahead = 1 + int(self._drawn.random() * MINUTE_MS), 1 + int(self._drawn.random() * 5)
        return self._drawn.choice(
            (
                StreamId(newest.ms, newest.seq + ahead),
                StreamId(self._world.now_ms + ahead_ms, newest.seq),
                StreamId(self._world.now_ms + ahead_ms, newest.seq + ahead),
                LARGEST,
            )
        )

    def _of_this_log(self, log_key: str) -> StreamId:
        """One that the client may never have got, as by accident an id of another log may be one of this."""
        return self._choose(self._history.get(log_key, [])[-4:])

    def _of_another_log(self, log_key: str) -> StreamId:
        """Of another destination, or of another user."""
        return self._choose([entry for key, log in self._history.items() if key != log_key for entry in log])

    def _of_a_forgotten_log(self, log_key: str) -> StreamId:
        forgotten = [entry for entry in self._history.get(log_key, []) if entry.forgotten]
        if forgotten:
            return self._drawn.choice(forgotten).id
        return StreamId(self._world.now_ms - MINUTE_MS * 60, 1 + int(self._drawn.random() * 20))

    def _beside_a_real_one(self, log_key: str) -> StreamId:
        real = self._choose(self._history.get(log_key, []))
        return StreamId(real.ms + int(self._drawn.random() * 3), int(self._drawn.random() * (real.seq + 3)))

    def _at_random(self, log_key: str) -> StreamId:
        return StreamId(*(int(self._drawn.random() * 10 ** self._drawn.randint(0, 15)) for _ in range(2)))

    def _choose(self, entries: list[Entry]) -> StreamId:
        return self._drawn.choice(entries).id if entries else self._at_random("")

    def _newest(self, log_key: str) -> StreamId:
        return max((entry.id for entry in self._history.get(log_key, [])), default=StreamId(self._world.now_ms, 0))

    def _key(self, user: str, destination: str) -> str:
        key: str = self._world.keys.log(user, Destination.parse(destination))
        return key

    @property
    def _history(self) -> dict[str, list[Entry]]:
        history: dict[str, list[Entry]] = self._world.redis.keyspace.history
        return history
