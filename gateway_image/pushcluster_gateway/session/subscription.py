"""One subscription of one client: does what its state machine decides, and tracks its cursor.

A push passes through `copy_arrived`, in the usual case `_write`, and the socket.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pushcluster_contract.batch import Address
from pushcluster_contract.ids import ZERO_ID, StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import MessageOutcome, ReplyRequest
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.copy_path import CopyPath
from pushcluster_gateway.session.delivery import (
    DeliveryMachine,
    Expired,
    LogPage,
    LogState,
    Output,
    Phase,
    ReadPage,
    Ready,
    Write,
)
from pushcluster_gateway.session.interfaces import ClientSocket, Requester
from pushcluster_gateway.session.progress import Progress
from pushcluster_gateway.session.refusals import RecentRefusals
from pushcluster_gateway.stomp.errors import InvalidHeader
from pushcluster_gateway.stomp.frames import Version
from pushcluster_gateway.stomp.requests import Acknowledge, Subscribe
from pushcluster_gateway.stomp.serializer import MessageEncoder, TailEncoder


class OutcomeObserver(Protocol):
    """Learns what becomes of messages whose producers want outcomes (`OutcomeReporter`)."""

    def wrote(self, subscription: "Subscription", entry: LogEntry) -> None:
        """Note an entry that was passed to the socket."""

    def repeated(self, subscription: "Subscription", entry: LogEntry) -> None:
        """Note a copy of an entry that was written before."""

    def expired(self, subscription: "Subscription", entry: LogEntry) -> None:
        """Note an entry that expired before it was written."""

    def settled(self, subscription: "Subscription", message_ids: list[StreamId], outcome: MessageOutcome) -> None:
        """Note entries that the client has acknowledged or refused."""


class SubscriptionServices(Protocol):
    """What a subscription needs from its gateway. Every method returns at once. Answers come as calls."""

    limits: Limits
    metrics: Metrics
    tails: TailEncoder

    @property
    def outcomes(self) -> OutcomeObserver:
        """Learns what becomes of messages."""

    def redis_now_ms(self) -> int:
        """Return Redis TIME in ms, as estimated."""

    def cursor_moved(self, subscription: "Subscription") -> None:
        """Have the subscription's cursor flushed within about a second."""


class Subscriber(Requester, Protocol):
    """What a subscription needs from its client (`Client`)."""

    user: str
    ended: bool
    waits_for_outbox: bool
    """Whether a subscription waits for space in the outbox."""

    @property
    def services(self) -> SubscriptionServices:
        """The services of the gateway."""

    @property
    def socket(self) -> ClientSocket:
        """The socket that messages are written to."""

    @property
    def version(self) -> Version:
        """The version of STOMP that the client speaks."""

    @property
    def subscriptions(self) -> Mapping[str, "Subscription"]:
        """All subscriptions of the session."""

    def send_receipt(self, receipt: str | None, headers: Mapping[str, str] | None = None) -> None:
        """Send a RECEIPT if the client asked for one."""

    def await_page(self, subscription: "Subscription", asked: ReadPage) -> None:
        """Read the log once it is this subscription's turn. The answer comes by `Subscription.page_read`."""

    def page_ended(self, subscription: "Subscription", asked: ReadPage, page: LogPage | None) -> None:
        """Pass on a page that was read; None: nobody wants it any more."""


class Subscription:
    """One subscription. It drops all answers of the services that come after it has `ended`."""

    __slots__ = (
        "_refused",
        "address",
        "client",
        "destination",
        "encoder",
        "ended",
        "flush_scheduled",
        "key",
        "last_message_id",
        "machine",
        "number",
        "outcome_requests",
        "path",
        "progress",
        "receipt",
        "started_after",
    )

    def __init__(self, client: Subscriber, request: Subscribe, number: int) -> None:
        limits = client.services.limits
        self.client = client
        self.key = request.key
        self.number = number
        """The number of this subscription in its session, which our `ack` headers contain."""
        self.destination = request.destination
        self.address = Address.of(client.user, request.destination).data
        """The address in copies for this subscription."""
        self.receipt = request.receipt
        self.last_message_id = request.last_message_id
        """Up to where the client says it has everything."""
        self.path = CopyPath()
        """Whether its copies come over the gateway's queue or, in mode Session, over one of its own."""
        self.ended = False
        """Whether the client has unsubscribed or is gone. What still arrives is dropped."""
        self.flush_scheduled = False
        """Whether the cursor flusher will collect this subscription's cursor."""
        self.outcome_requests: dict[StreamId, tuple[LogEntry, ReplyRequest]] | None = None
        """Entries, without their bodies, that wait for an acknowledgement and whose producers want outcomes."""
        self._refused: RecentRefusals | None = None
        self.started_after: StreamId = ZERO_ID
        """The position at which the subscription began. Earlier sessions of the user got what is not newer."""
        self.progress = Progress()
        self.machine = DeliveryMachine(
            ack_mode=request.ack_mode,
            last_message_id=request.last_message_id,
            max_unacked=limits.max_unacked_messages,
            page_entries=limits.page_entries,
            page_bytes=limits.page_bytes,
        )
        self.encoder = MessageEncoder(
            version=client.version,
            ack_mode=request.ack_mode,
            subscription_id=request.id,
            number=number,
            destination=request.destination.as_subscribed(),
        )

    # Answers of the services

    def subscribed(self, log: LogState) -> None:
        """Begin the catch-up: the registry entry is there."""
        if not self.ended:
            self.progress.flushed = (log.cursor, log.sent)  # the registry knows it already
            outputs = self.machine.registered(log)
            self.started_after = self.machine.position
            self._apply(outputs)

    def refreshed(self, log: LogState, asked_at: StreamId, *, resync: bool) -> None:
        """Compare with the log after a refresh. `asked_at` was the position when the refresh began."""
        if not self.ended:
            free_bytes = self.client.socket.outbox.free_bytes
            self._apply(self.machine.refreshed(log, asked_at, resync=resync, free_bytes=free_bytes))

    def page_read(self, asked: ReadPage, page: LogPage) -> None:
        """Take a page of the log."""
        if not self.ended:
            client = self.client
            now_ms = client.services.redis_now_ms()
            free_bytes = client.socket.outbox.free_bytes
            self._apply(self.machine.receive_page(asked, page.entries, free_bytes, now_ms, cut=page.cut))

    def settle(self, message_ids: list[StreamId]) -> None:
        """Settle messages that were acknowledged, or copied to `push.refused` after a NACK."""
        if not self.ended:
            self._apply(self.machine.settle(message_ids, self.client.socket.outbox.free_bytes))
            self.client.services.cursor_moved(self)

    def note_refused(self, message_ids: Sequence[StreamId]) -> None:
        """Remember for a while that the client refused these messages."""
        if self._refused is None:
            self._refused = RecentRefusals()
        for message_id in message_ids:
            self._refused.add(message_id)

    def was_refused(self, message_id: StreamId) -> bool | None:
        """Return whether the client refused this message, or None if that is forgotten."""
        return False if self._refused is None else self._refused.was_refused(message_id)

    def copy_arrived(self, entry: LogEntry) -> None:
        """Take a copy of a message that came over AMQP."""
        if self.ended:
            return
        client, machine = self.client, self.machine
        if machine.accept_next(entry, client.socket.outbox.free_bytes):
            self._write(entry, self.encoder.encode_head(entry.id))
            self._note_progress()
            return
        services = client.services
        if entry.reply and entry.id <= machine.position:
            services.outcomes.repeated(self, entry)
        was_live = machine.phase is Phase.LIVE
        outputs = machine.receive_copy(entry, client.socket.outbox.free_bytes, services.redis_now_ms())
        if not outputs and machine.position != entry.id:
            services.metrics.copies_dropped += 1
        if was_live and machine.phase is not Phase.LIVE:
            services.metrics.holes += 1
        self._apply(outputs)

    # What the client asks for

    def proceed(self) -> None:
        """Continue: the outbox has space again."""
        self._apply(self.machine.proceed(self.client.socket.outbox.free_bytes))

    def send_receipt(self, headers: Mapping[str, str] | None = None) -> None:
        """Send the RECEIPT of SUBSCRIBE once, at the latest when the subscription ends."""
        receipt, self.receipt = self.receipt, None
        self.client.send_receipt(receipt, headers)

    # What the cursor flusher calls

    def cursor_to_flush(self) -> tuple[StreamId, StreamId] | None:
        """Return the cursor and `sent` to flush, or None when the registry has them already."""
        machine = self.machine
        self.progress.accept(self.client.socket.sample_accepted())
        cursor = self.progress.accepted if machine.window is None else machine.window.cursor
        if (cursor, machine.sent) == self.progress.flushed:
            return None
        self.progress.flushed = (cursor, machine.sent)
        return self.progress.flushed

    @property
    def has_unflushed(self) -> bool:
        """Whether the cursor waits for the socket to take what was written."""
        return self.machine.window is None and self.progress.accepted < self.machine.position

    # Steps

    def _apply(self, outputs: Sequence[Output]) -> None:
        """Do what the state machine decided, in order."""
        services = self.client.services
        for output in outputs:
            if isinstance(output, Write):
                head = self.encoder.encode_head(
                    output.entry.id, redelivered=output.redelivered, recovered=output.recovered
                )
                self._write(output.entry, head)
                services.metrics.messages_redelivered += output.redelivered
            elif isinstance(output, ReadPage):
                self.client.await_page(self, output)
            elif isinstance(output, Ready):
                recovered = output.recovered
                self.send_receipt(None if recovered is None else {"recovered": str(recovered).lower()})
            elif isinstance(output, Expired):
                services.outcomes.expired(self, output.entry)
            else:
                services.metrics.gaps += 1
        if self.machine.waits:
            self.client.waits_for_outbox = True
        self._note_progress()

    def _write(self, entry: LogEntry, head: bytes) -> None:
        client = self.client
        services = client.services
        client.socket.send_message(head, services.tails.encode(entry, self.encoder.version))
        services.metrics.messages_written += 1
        if entry.reply:
            services.outcomes.wrote(self, entry)

    def _note_progress(self) -> None:
        client = self.client
        moved = self.progress.wrote(self.machine.position, client.socket.outbox.end_offset)
        if moved and not self.flush_scheduled:
            client.services.cursor_moved(self)


def find_acknowledged(
    request: Acknowledge, subscriptions: Mapping[str, Subscription], *, made: int
) -> Subscription | None:
    """Return the subscription of an ACK or NACK. Raise InvalidHeader for a number that no subscription has had.

    STOMP 1.2 names it by our number, 1.1 by its id, 1.0 perhaps not at all. Then it is the one that waits for this
    message. `made` is the number of subscriptions that the session has had.
    """
    if request.key is not None:
        return subscriptions.get(request.key)
    for subscription in subscriptions.values():
        if request.number == subscription.number:
            return subscription
        if request.number is None and subscription.machine.awaits(request.message_id):
            return subscription
    if request.number is not None and not 0 < request.number <= made:
        command, rule = "ACK" if request.accepted else "NACK", "it is not the `ack` header of a MESSAGE of this session"
        raise InvalidHeader(command, "id", f"{request.number}/{request.message_id}", rule)
    return None
