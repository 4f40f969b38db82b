"""The product, broken on purpose where it stands up to what stands still, comes late, or steps."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from typing import Any, Final
from unittest.mock import patch

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_dispatcher.ingress.batches import Batch
from pushcluster_dispatcher.ingress.fencing import FencedLogs
from pushcluster_dispatcher.ingress.interfaces import FencedLog
from pushcluster_dispatcher.ingress.partition import PartitionSession
from pushcluster_dispatcher.log.interfaces import HeldWire
from pushcluster_dispatcher.log.user_log import Fence
from pushcluster_gateway.gateway import Gateway
from tests.simulation.keyspace import Keyspace

NEVER_HANDED_OUT: Final = 10**15
"""Fencing tokens stay below it."""


def _take_any_token() -> AbstractContextManager[Any]:
    original = Keyspace._append

    def append(self: Keyspace, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        self.data.pop(keys[4], None)
        return original(self, keys, args, now)

    return patch.object(Keyspace, "_append", append)


def _keep_the_first_token() -> AbstractContextManager[Any]:
    """Of a process. Of a channel it would do no harm: the names of attempts tell what a lost connection did late."""
    original = FencedLogs._count_up
    first: dict[int, tuple[Any, int]] = {}

    async def count_up(self: FencedLogs, wire: Any) -> int:
        if id(self.link) not in first:
            first[id(self.link)] = self.link, await original(self, wire)
        return first[id(self.link)][1]

    return patch.object(FencedLogs, "_count_up", count_up)


def _append_before_the_fence_stands() -> AbstractContextManager[Any]:
    """The first append raises it."""

    async def open_logs(self: FencedLogs, wire: HeldWire) -> FencedLog:
        token = await self._count_up(wire)
        await self.prove_channel()
        log = self.open_log(wire, Fence(self.partition, token))
        return FencedLog(token, log, partial(self.request_barrier, wire.run_id))

    return patch.object(FencedLogs, "open", open_logs)


def _repeat_blindly() -> AbstractContextManager[Any]:
    names = count(NEVER_HANDED_OUT)

    def name_attempts(self: Batch, channel_token: int) -> list[bytes]:
        return [b"%d-%d" % (next(names), delivery.tag) for delivery in self.accepted]

    return patch.object(Batch, "name_attempts", name_attempts)


def _put_back_what_has_begun() -> AbstractContextManager[Any]:
    original = PartitionSession._run_over

    async def run_over(self: PartitionSession, wire: Any) -> str:
        lost = await original(self, wire)
        if lost:
            raise Unavailable(lost)
        return lost

    return patch.object(PartitionSession, "_run_over", run_over)


def _go_by_the_wall_clock() -> AbstractContextManager[Any]:
    return patch.object(Gateway, "redis_now_ms", lambda self: int(self.wall_clock() * 1_000))


def _follow_a_clock_back() -> AbstractContextManager[Any]:
    original = Keyspace._add_entry

    def add_entry(self: Keyspace, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        meta = self._touch(keys[0], {})
        if "newest" in meta:
            meta["newest"] = StreamId(0, meta["newest"].seq)
        return original(self, keys, args, now)

    return patch.object(Keyspace, "_add_entry", add_entry)


TIME_MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "APPEND takes any token": _take_any_token,
    "no new token for a new channel": _keep_the_first_token,
    "the fence is not raised before the first append": _append_before_the_fence_stands,
    "an unknown outcome is repeated blindly": _repeat_blindly,
    "what has begun is put back when Redis is lost": _put_back_what_has_begun,
    "messages expire by a gateway's wall clock": _go_by_the_wall_clock,
    "ids follow a clock of Redis that goes back": _follow_a_clock_back,
}
