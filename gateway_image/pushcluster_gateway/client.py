"""One client: its STOMP session, its subscriptions, and what they owe its socket. No I/O of its own."""

from collections.abc import Sequence

from pushcluster_contract.ids import StreamId
from pushcluster_contract.log import LogEntry
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_gateway import closes
from pushcluster_gateway.claims import Identity
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.closes import Close
from pushcluster_gateway.deadlines import NEVER, Deadlines
from pushcluster_gateway.ports import Rejected, Services, Socket
from pushcluster_gateway.stomp.errors import InvalidHeader, LimitExceeded, ProtocolViolation
from pushcluster_gateway.stomp.frames import Frame, HeartBeat, Version
from pushcluster_gateway.stomp.requests import (
    Acknowledge,
    Commit,
    Connect,
    Disconnect,
    Done,
    Request,
    Subscribe,
    Unsubscribe,
    headers_of_connected,
)
from pushcluster_gateway.stomp.serializer import HEART_BEAT, encode_frame
from pushcluster_gateway.stomp.session import StompSession
from pushcluster_gateway.subscription import Expired, LogState, Output, Phase, ReadPage, Ready, Write


class Client:
    """One client from the open WebSocket to the end. Implements `websocket.Handler`."""

    __slots__ = (
        "_calls_in_flight",
        "_leaving",
        "_subscriptions_made",
        "_token",
        "_waiting",
        "calls",
        "deadlines",
        "ended",
        "gone",
        "services",
        "sid",
        "socket",
        "stomp",
        "subscriptions",
        "user",
    )

    def __init__(self, services: Services, socket: Socket, subprotocol: Version | None, token: str) -> None:
        """`token` came with the WebSocket handshake, or is empty."""
        self.services = services
        self.socket = socket
        self.stomp = StompSession(services.limits, subprotocol)
        self.sid = ""
        self.user = ""
        self.subscriptions: dict[str, ClientSubscription] = {}
        self.ended = False
        """Whether the socket is gone, or going."""
        self.gone = False
        """Whether the socket is gone: the session leaves the registry."""
        self.calls = 0
        """Calls to the registry under way that may write this session's entry: it is removed after the last one."""
        self._token = token
        self._calls_in_flight = 0
        self._leaving: Disconnect | None = None
        self._subscriptions_made = 0
        self._waiting = False
        self.deadlines = Deadlines(services.limits, services.clock())

    # websocket.Handler

    def received(self, data: bytes | bytearray) -> None:
        """Bytes of the client."""
        self.deadlines.received_at = self.services.clock()
        try:
            self.stomp.receive(data)
        except ProtocolViolation as violation:
            self.fail(violation.close, str(violation))
        self._handle_requests()

    def room_freed(self) -> None:
        """The socket has taken what waited: subscriptions that waited for it go on."""
        if not self._waiting or self.ended:
            return
        self._waiting = False
        for subscription in list(self.subscriptions.values()):
            self.apply(subscription, subscription.machine.proceed(self.socket.outbox.room_bytes))

    def refuse(self, close: Close) -> None:
        """End the connection for a reason that needs no more words."""
        self.fail(close, close.reason)

    def closing(self) -> None:
        """The socket has begun to close by itself: nothing that is written from now on arrives."""
        self.ended = True
        self.stomp.close()
        for subscription in self.subscriptions.values():
            subscription.ended = True

    def lost(self) -> None:
        """The socket is gone."""
        self.closing()
        self.gone = True
        if self.user:
            self.services.leave(self)

    def check_deadlines(self, now: float) -> float:
        """Do what is due, and return when to ask again."""
        verdict = self.deadlines.check(now, written_at=self.socket.written_at)
        if verdict.close is not None:
            self.refuse(verdict.close)
        if verdict.send_heart_beat and not self.socket.outbox.paused:
            self.socket.send(HEART_BEAT)
        return verdict.look_again_at

    @property
    def wants_pings(self) -> bool:
        """Whether no heart-beats of the client show that it is alive."""
        return not self.deadlines.expects_heart_beats

    # Answers of the services

    def authenticated(self, request: Connect, identity: Identity) -> None:
        """The client has proved who it is."""
        self.socket.keep_place()
        self.user = identity.user
        self.sid = self.services.new_session_id()
        expires_at = NEVER
        if identity.expires_s is not None:
            expires_at = self.services.clock() + max(0.0, identity.expires_s - self.services.wall_clock())
        self.deadlines.connected(ours=self._offer(request.version), theirs=request.heart_beat, expires_at=expires_at)
        self.services.register(self)

    def registered(self) -> None:
        """CONNECT is granted."""
        headers = headers_of_connected(
            version=self.stomp.version,
            session=self.sid,
            server=self.services.server_name,
            user=self.user,
            gateway=self.services.pod_name,
            heart_beat=self._offer(self.stomp.version),
            expires_in_ms=self.deadlines.expires_in_ms(self.services.clock()),
        )
        self.stomp.connected()
        self._send(Frame("CONNECTED", headers))
        self.socket.wake_at(self.services.clock())
        self.socket.release_input()
        self._handle_requests()

    def subscribed(self, subscription: ClientSubscription, log: LogState) -> None:
        """Step G3 is done."""
        if not subscription.ended:
            subscription.registered(log)
            self.apply(subscription, subscription.machine.registered(log))

    def refreshed(self, subscription: ClientSubscription, log: LogState, asked_at: StreamId, *, resync: bool) -> None:
        """The registry was written again; `asked_at` was the subscription's position when that was asked for."""
        if not subscription.ended:
            room = self.socket.outbox.room_bytes
            self.apply(subscription, subscription.machine.refreshed(log, asked_at, resync=resync, room_bytes=room))

    def page_read(self, subscription: ClientSubscription, asked: ReadPage, entries: Sequence[LogEntry]) -> None:
        """A page of the log is there."""
        if not subscription.ended:
            room = self.socket.outbox.room_bytes
            self.apply(subscription, subscription.machine.page(asked, entries, room, self.services.redis_now_ms()))

    def settled(self, subscription: ClientSubscription, message_ids: list[StreamId], receipt: str | None) -> None:
        """Messages were acknowledged, or put aside after a NACK; `receipt` is due once the last of them is."""
        if not subscription.ended:
            self.apply(subscription, subscription.machine.settle(message_ids, self.socket.outbox.room_bytes))
            self.services.cursor_moved(subscription)
        self._receipt(receipt)

    def call_ended(self) -> None:
        """The services are done with a SUBSCRIBE, UNSUBSCRIBE or NACK, whatever came of it."""
        self._calls_in_flight -= 1
        if self._calls_in_flight == self.services.limits.max_calls_in_flight - 1 and not self.ended:
            self.socket.release_input()
            self._handle_requests()
        if self._leaving is not None and not self._calls_in_flight:
            self._leave(self._leaving)

    def copy_arrived(self, subscription: ClientSubscription, entry: LogEntry) -> None:
        """A copy of a message for this subscription came over AMQP."""
        if subscription.ended:
            return
        machine = subscription.machine
        if machine.follow(entry, self.socket.outbox.room_bytes):
            self._write(subscription, entry, subscription.encoder.encode_head(entry.id))
            self._note_progress(subscription)
            return
        if entry.reply and entry.id <= machine.position:
            self.services.outcomes.repeated(subscription, entry)
        was_live = machine.phase is Phase.LIVE
        outputs = machine.copy(entry, self.socket.outbox.room_bytes, self.services.redis_now_ms())
        if not outputs and machine.position != entry.id:
            self.services.metrics.copies_dropped += 1
        if was_live and machine.phase is not Phase.LIVE:
            self.services.metrics.holes += 1
        self.apply(subscription, outputs)

    def apply(self, subscription: ClientSubscription, outputs: Sequence[Output]) -> None:
        """Do what a subscription's state machine decided, in order."""
        metrics = self.services.metrics
        for output in outputs:
            if isinstance(output, Write):
                head = subscription.encoder.encode_head(
                    output.entry.id, redelivered=output.redelivered, recovered=output.recovered
                )
                self._write(subscription, output.entry, head)
                metrics.messages_redelivered += output.redelivered
            elif isinstance(output, ReadPage):
                self.services.read_page(subscription, output)
            elif isinstance(output, Ready):
                self._ready(subscription, recovered=output.recovered)
            elif isinstance(output, Expired):
                self.services.outcomes.expired(subscription, output.entry)
            else:
                metrics.gaps += 1
        if subscription.machine.waits:
            self._waiting = True
        self._note_progress(subscription)

    def _write(self, subscription: ClientSubscription, entry: LogEntry, head: bytes) -> None:
        services = self.services
        self.socket.send_message(head, services.tails.encode(entry, subscription.encoder.version))
        services.metrics.messages_written += 1
        if entry.reply:
            services.outcomes.wrote(subscription, entry)

    def _note_progress(self, subscription: ClientSubscription) -> None:
        moved = subscription.progress.wrote(subscription.machine.position, self.socket.outbox.end_offset)
        if moved and not subscription.marked:
            self.services.cursor_moved(subscription)

    # Ends

    def fail(self, close: Close, detail: str, receipt: str | None = None) -> None:
        """Say why in an ERROR frame, then close."""
        if self.ended:
            return
        headers = {"message": close.reason, "content-type": "text/plain"}
        if close is closes.UNSUPPORTED_VERSION:
            headers["version"] = ",".join(Version)
        if receipt is not None:
            headers["receipt-id"] = receipt
        if close.retry_after_ms is not None:
            headers["retry-after-ms"] = str(close.retry_after_ms)
        self._send(Frame("ERROR", headers, f"{detail}\n".encode()))
        self.close(close)

    def close(self, close: Close) -> None:
        """Close without an ERROR frame: nothing is wrong with this client."""
        self.closing()
        self.socket.close(close)

    # Requests

    def _handle_requests(self) -> None:
        limit = self.services.limits.max_calls_in_flight
        try:
            while not self.ended and self._calls_in_flight < limit:
                request = self.stomp.next_request()
                if request is None:
                    return
                self._handle(request)
        except ProtocolViolation as violation:
            self.fail(violation.close, str(violation), self.stomp.receipt)

    def _handle(self, request: Request) -> None:
        match request:
            case Acknowledge():
                self._take_effect((request,), request.receipt)
            case Commit():
                self._take_effect(request.acknowledges, request.receipt)
            case Subscribe():
                self._subscribe(request)
            case Unsubscribe():
                self._unsubscribe(request)
            case Done():
                self._receipt(request.receipt)
            case Connect():
                self._connect(request)
            case Disconnect() if self._calls_in_flight:
                self._leaving = request
            case Disconnect():
                self._leave(request)

    def _connect(self, request: Connect) -> None:
        token, self._token = self._token, ""
        self.deadlines.connect_came()
        self.socket.hold_input()
        self.services.authenticate(self, request, token)

    def _offer(self, version: Version) -> HeartBeat:
        if version is Version.V1_0:
            return HeartBeat()
        return HeartBeat(self.services.limits.server_heart_beat_ms, self.services.limits.client_heart_beat_ms)

    def _subscribe(self, request: Subscribe) -> None:
        limit = self.services.limits.max_subscriptions
        if request.key in self.subscriptions:
            raise InvalidHeader("SUBSCRIBE", "id", request.key, "this session has a subscription with it")
        if len(self.subscriptions) >= limit:
            raise LimitExceeded("subscriptions of one session", limit)
        self._subscriptions_made += 1
        subscription = ClientSubscription(self, request, self._subscriptions_made)
        self.subscriptions[request.key] = subscription
        self._call_begins()
        self.services.subscribe(subscription)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        subscription = self.subscriptions.pop(request.key, None)
        if subscription is None:
            raise InvalidHeader("UNSUBSCRIBE", "id", request.key, "this session has no such subscription")
        subscription.ended = True
        self._call_begins()
        self.services.unsubscribe(subscription)
        self._ready(subscription)
        self._receipt(request.receipt)

    def _take_effect(self, acknowledges: Sequence[Acknowledge], receipt: str | None) -> None:
        """Do what ACK and NACK frames ask for; RECEIPT comes when all of it is done."""
        # All are found before the first one counts: a transaction takes effect as a whole or not at all.
        found = [(self._find_subscription(each), each) for each in acknowledges]
        rejected: list[Rejected] = []
        for subscription, each in found:
            message_ids = [] if subscription is None else subscription.machine.covered(each.message_id)
            if subscription is None or not message_ids:
                continue  # left, or acknowledged already: both may cross with the client's frame
            if each.accepted:
                self.services.outcomes.settled(subscription, message_ids, MessageOutcome.ACKED)
                self.settled(subscription, message_ids, None)
            else:
                subscription.machine.reject(message_ids)
                rejected.append(Rejected(subscription, message_ids))
        if rejected:
            self._call_begins()
            self.services.reject(self, rejected, receipt)
        else:
            self._receipt(receipt)

    def _leave(self, request: Disconnect) -> None:
        """Everything that the client sent before is done, which is what this RECEIPT promises (1.2, DISCONNECT)."""
        self._leaving = None
        for subscription in self.subscriptions.values():
            self._ready(subscription)
        self._receipt(request.receipt)
        self.close(closes.CLIENT_DISCONNECTED)

    def _call_begins(self) -> None:
        self._calls_in_flight += 1
        if self._calls_in_flight == self.services.limits.max_calls_in_flight:
            self.socket.hold_input()

    def _find_subscription(self, request: Acknowledge) -> ClientSubscription | None:
        """1.2 names it by our number, 1.1 by its id, 1.0 perhaps not at all."""
        if request.key is not None:
            return self.subscriptions.get(request.key)
        for subscription in self.subscriptions.values():
            if request.number == subscription.number:
                return subscription
            if request.number is None and subscription.machine.covered(request.message_id):
                return subscription
        if request.number is not None and not 0 < request.number <= self._subscriptions_made:
            command, rule = "ACK" if request.accepted else "NACK", "it is no `ack` header of a MESSAGE of this session"
            raise InvalidHeader(command, "id", f"{request.number}/{request.message_id}", rule)
        return None

    def _send(self, frame: Frame) -> None:
        self.socket.send(encode_frame(frame, self.stomp.version))

    def _ready(self, subscription: ClientSubscription, *, recovered: bool | None = None) -> None:
        """Send SUBSCRIBE's RECEIPT, once: at the latest when the subscription ends."""
        receipt, subscription.receipt = subscription.receipt, None
        self._receipt(receipt, {} if recovered is None else {"recovered": str(recovered).lower()})

    def _receipt(self, receipt: str | None, headers: dict[str, str] | None = None) -> None:
        if receipt is not None and not self.ended:
            self._send(Frame("RECEIPT", {"receipt-id": receipt, **(headers or {})}))
