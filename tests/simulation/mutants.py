"""The product, broken on purpose: each of these the simulation must find, or it proves nothing."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from pushcluster_contract.ids import StreamId
from pushcluster_dispatcher.egress.copies import CopyPublisher
from pushcluster_dispatcher.ingress.partition import PartitionSession
from pushcluster_dispatcher.ingress.time_limit import HeldTimes
from pushcluster_dispatcher.log.barrier import Barrier
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.log.user_log import UserLog
from pushcluster_dispatcher.messages import Message
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.gateway import Gateway
from pushcluster_gateway.registry.cursor_flusher import CursorFlusher
from pushcluster_gateway.registry.lease import OwnLease
from pushcluster_gateway.registry.lease_keeper import LeaseKeeper
from pushcluster_gateway.session.acks import AckWindow
from pushcluster_gateway.session.delivery import (
    DeliveryMachine,
    Phase,
    Ready,
    Write,
)
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.stomp.serializer import MessageEncoder
from pushcluster_runtime.amqp.publisher_connection import PublisherConnection
from tests.simulation.client_mutants import CLIENT_MUTANTS
from tests.simulation.keyspace import Keyspace
from tests.simulation.time_mutants import TIME_MUTANTS


def _skip_append() -> AbstractContextManager[Any]:
    async def append(self: UserLog, messages: Sequence[Message], attempts: Any, on_part: Any) -> list[Appended]:
        return [Appended(b"1-1", known=False, dropped=0, sessions=b"", expires_ms=0) for _ in messages]

    return patch.object(UserLog, "append", append)


def _skip_catchup() -> AbstractContextManager[Any]:
    original = DeliveryMachine.registered

    def registered(self: DeliveryMachine, log: Any) -> list[Any]:
        original(self, log)
        self.phase, self.position = Phase.LIVE, log.newest
        return [Ready(self._recovered)]

    return patch.object(DeliveryMachine, "registered", registered)


def _acknowledge_before_barrier() -> AbstractContextManager[Any]:
    def request(self: Barrier, run_id: str, *, urgent: bool = True) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    return patch.object(Barrier, "request", request)


def _acknowledge_before_append() -> AbstractContextManager[Any]:
    """So long before it that a crash under traffic falls between the two, whatever the machine's pace."""
    original = PartitionSession._process

    async def process(self: PartitionSession, batch: Any, *args: Any, **more: Any) -> Any:
        self._channel.ack(batch.last_tag, multiple=True)
        await asyncio.sleep(0.5)
        return await original(self, batch, *args, **more)

    return patch.object(PartitionSession, "_process", process)


@contextmanager
def _work_without_a_connection_for_copies() -> Iterator[None]:
    """Which comes late, so that a few schedules show it."""
    original = PublisherConnection._hold_connection

    async def hold_connection(self: PublisherConnection) -> None:
        await asyncio.sleep(1.0)
        await original(self)

    async def wait_connected(self: PublisherConnection) -> Any:
        return SimpleNamespace(lost=asyncio.get_running_loop().create_future())

    def end(self: CopyPublisher, batch: Any, *, sent: bool = False) -> None:
        self._left_out = self._left_out or not sent
        if not batch.settled.done():
            batch.settled.set_result(None)

    with (
        patch.object(PublisherConnection, "_hold_connection", hold_connection),
        patch.object(PublisherConnection, "wait_connected", wait_connected),
        patch.object(CopyPublisher, "_end", end),
    ):
        yield


def _tell_nobody_what_was_left_out() -> AbstractContextManager[Any]:
    return patch.object(CopyPublisher, "opened", lambda self: None)


def _forget_message_ids() -> AbstractContextManager[Any]:
    original = UserLog._build_call

    def build_call(self: UserLog, message: Message, attempt: bytes) -> bytes:
        return original(self, message._replace(message_id=""), attempt)

    return patch.object(UserLog, "_build_call", build_call)


def _move_cursor_back() -> AbstractContextManager[Any]:
    def advance(self: Keyspace, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        meta = self._touch(keys[0], {})
        meta["cursor"] = StreamId(meta.get("cursor", StreamId(0, 0)).ms - 1, 0)
        return 1

    return patch.object(Keyspace, "_advance_cursor", advance)


def _move_cursor_before_the_socket() -> AbstractContextManager[Any]:
    def cursor_to_flush(self: Subscription) -> tuple[StreamId, StreamId]:
        return self.machine.position, self.machine.sent

    return patch.object(Subscription, "cursor_to_flush", cursor_to_flush)


def _jump_over_unacknowledged() -> AbstractContextManager[Any]:
    original = AckWindow.settle

    def settle(self: AckWindow, message_ids: list[StreamId]) -> None:
        original(self, message_ids)
        self.cursor = max([self.cursor, *message_ids])

    return patch.object(AckWindow, "settle", settle)


def _write_copies_of_a_log_that_is_gone() -> AbstractContextManager[Any]:
    original = DeliveryMachine._start_over

    def start_over(self: DeliveryMachine, position: StreamId) -> None:
        original(self, position)
        self._stale_copies_to = StreamId(0, 0)

    return patch.object(DeliveryMachine, "_start_over", start_over)


def _take_an_older_answer_for_a_lost_log() -> AbstractContextManager[Any]:
    original = DeliveryMachine.refreshed

    def refreshed(self: DeliveryMachine, log: Any, asked_at: StreamId, **facts: Any) -> Any:
        return original(self, log, self.position, **facts)

    return patch.object(DeliveryMachine, "refreshed", refreshed)


def _miss_holes() -> AbstractContextManager[Any]:
    return patch.object(DeliveryMachine, "_is_hole", lambda self, entry: False)


def _forget_who_shares_a_queue() -> AbstractContextManager[Any]:
    def read_subscription_batch(self: CopyReader, subscription: Subscription, batch: bytes, _: object) -> None:
        for address, span in self._parse(batch) or ():
            self._deliver(batch, span, (subscription,) if address == subscription.address else ())

    return patch.object(CopyReader, "read_subscription_batch", read_subscription_batch)


def _write_what_was_written() -> AbstractContextManager[Any]:
    original = DeliveryMachine.receive_copy

    def copy(self: DeliveryMachine, entry: Any, free_bytes: int, now_ms: int) -> list[Any]:
        if self.phase is Phase.LIVE and entry.id <= self.position:
            return [Write(entry, redelivered=True, recovered=None)]
        return original(self, entry, free_bytes, now_ms)

    return patch.object(DeliveryMachine, "receive_copy", copy)


def _change_heads(header: str, wrong: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    original = MessageEncoder.encode_head

    def encode_head(self: MessageEncoder, message_id: StreamId, **headers: Any) -> bytes:
        if header in headers:
            headers[header] = wrong(headers[header])
        return original(self, message_id, **headers)

    return patch.object(MessageEncoder, "encode_head", encode_head)


def _cry_wolf() -> AbstractContextManager[Any]:
    original = DeliveryMachine.registered

    def registered(self: DeliveryMachine, log: Any) -> list[Any]:
        outputs = original(self, log)
        self._recovered = None if self._recovered is None else False
        return outputs

    return patch.object(DeliveryMachine, "registered", registered)


def _forget_what_was_sent() -> AbstractContextManager[Any]:
    original = Subscription.cursor_to_flush

    def cursor_to_flush(self: Subscription) -> tuple[StreamId, StreamId] | None:
        move = original(self)
        return None if move is None else (move[0], StreamId(0, 0))

    return patch.object(Subscription, "cursor_to_flush", cursor_to_flush)


def _subscribe_before_the_cursor_is_flushed() -> AbstractContextManager[Any]:
    async def flush_destination(self: CursorFlusher, *_: Any) -> None:
        return

    return patch.object(CursorFlusher, "flush_destination", flush_destination)


def _ignore_a_lost_lease() -> AbstractContextManager[Any]:
    original = OwnLease.renewed

    def renewed(self: OwnLease, **facts: Any) -> Any:
        return original(self, **{**facts, "existed": True})

    return patch.object(OwnLease, "renewed", renewed)


def _ignore_a_restarted_redis() -> AbstractContextManager[Any]:
    original = OwnLease.renewed

    def renewed(self: OwnLease, **facts: Any) -> Any:
        lease, _ = original(self, **facts)
        return lease, None

    return patch.object(OwnLease, "renewed", renewed)


def _ignore_lost_queues() -> AbstractContextManager[Any]:
    async def on_broker_connected(self: Gateway) -> None:
        self.queues.connected(self.hub.subscriptions())

    return patch.object(Gateway, "on_broker_connected", on_broker_connected)


def _stand_still() -> AbstractContextManager[Any]:
    return patch.object(LeaseKeeper, "next_walk_step", lambda self: [])


def _hold_messages_for_ever() -> AbstractContextManager[Any]:
    stack = ExitStack()
    for name in ("left_s", "latest_left_s"):
        stack.enter_context(patch.object(HeldTimes, name, lambda self, now: 1e6))
    return stack


MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "APPEND is skipped": _skip_append,
    "CATCHUP is skipped": _skip_catchup,
    "acknowledged before the barrier": _acknowledge_before_barrier,
    "acknowledged before the append": _acknowledge_before_append,
    "copies are left out without a connection for them": _work_without_a_connection_for_copies,
    "nobody is told that copies were left out under an alarm": _tell_nobody_what_was_left_out,
    "message ids are forgotten": _forget_message_ids,
    "the cursor moves back": _move_cursor_back,
    "the cursor moves before the socket write": _move_cursor_before_the_socket,
    "the cursor jumps over what is not acknowledged": _jump_over_unacknowledged,
    "late copies of a log that is gone are written": _write_copies_of_a_log_that_is_gone,
    "an answer older than what was written since is taken for a lost log": _take_an_older_answer_for_a_lost_log,
    "holes are not noticed": _miss_holes,
    "a queue's copies for others of its session are dropped": _forget_who_shares_a_queue,
    "what was written is written again": _write_what_was_written,
    "gaps are not told": partial(_change_heads, "recovered", lambda told: None if told is None else True),
    "every resume is told a gap": _cry_wolf,
    "duplicates are not marked": partial(_change_heads, "redelivered", lambda told: False),
    "nobody notes what was sent": _forget_what_was_sent,
    "a subscription begins before the cursor is flushed": _subscribe_before_the_cursor_is_flushed,
    "no resync after a lost lease": _ignore_a_lost_lease,
    "no resync after any doubt about the lease": _ignore_a_restarted_redis,
    "no resync after a lost connection to RabbitMQ": _ignore_lost_queues,
    "no walk": _stand_still,
    "messages are held until the broker takes them back": _hold_messages_for_ever,
    **CLIENT_MUTANTS,
    **TIME_MUTANTS,
}

SHOWN_BY: Final = {
    "late copies of a log that is gone are written": 420,
    "the fence is not raised before the first append": 184,
    "all that was written counts as delivered when the connection dies": 261,
    "a subscription begins at an id from the future": 123,
    "a subscription begins at any id of its log": 648,
}
"""Seeds of schedules that show what few of them do: tried first, and no more than that. A seed describes a schedule for
as long as nothing else in it changes; where it shows nothing any more, all schedules are searched as for the others."""
