"""One client: its STOMP session, its subscriptions and its socket. No I/O of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pushcluster_contract.ids import StreamId
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth.claims import AuthenticatedUser
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.session.deadlines import NEVER, Deadlines
from pushcluster_gateway.session.delivery import LogPage, ReadPage
from pushcluster_gateway.session.interfaces import ClientSocket
from pushcluster_gateway.session.page_turns import PageTurns
from pushcluster_gateway.session.request_rate import RequestRate
from pushcluster_gateway.session.subscription import Subscription, SubscriptionServices, find_acknowledged
from pushcluster_gateway.stomp.errors import InvalidHeader, LimitExceeded, ProtocolViolation
from pushcluster_gateway.stomp.frames import Frame, HeartBeat, Version
from pushcluster_gateway.stomp.requests import (
    Acknowledge,
    Commit,
    Connect,
    Disconnect,
    ReceiptDue,
    Request,
    Subscribe,
    Unsubscribe,
    headers_of_connected,
)
from pushcluster_gateway.stomp.serializer import HEART_BEAT, encode_frame
from pushcluster_gateway.stomp.session import StompSession


class Rejected(NamedTuple):
    """Messages of one subscription that its client refused by NACK."""

    subscription: Subscription
    message_ids: list[StreamId]


class ClientServices(SubscriptionServices, Protocol):
    """The services of a gateway for its clients. Every method returns at once. Answers come as calls."""

    server_name: str
    pod_name: str
    clock: Callable[[], float]
    """Seconds of the event loop."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch, for the times in tokens alone."""

    def new_session_id(self) -> str:
        """Return a new session id, which no session had before."""

    def authenticate(self, client: "Client", request: Connect, handshake_token: str) -> Callable[[], object] | None:
        """Identify the user. Return what cancels this, or None when it is done. Raise Unauthenticated.

        The answer comes by `Client.authenticated` or `Client.fail`.
        """

    def register(self, client: "Client") -> None:
        """Write the session into the registry. The answer comes by `Client.registered` or `Client.fail`."""

    def leave(self, client: "Client") -> None:
        """Remove the session from the gateway and the registry. `Client.left` follows."""

    def subscribe(self, client: "Client", subscription: Subscription) -> None:
        """Register the subscription and begin to deliver to it.

        The answer comes by `Subscription.subscribed` or `Client.fail`, and then `Client.call_ended`.
        """

    def unsubscribe(self, client: "Client", subscription: Subscription) -> None:
        """Undo `subscribe`. The answer comes by `Client.call_ended`."""

    def read_page(self, subscription: Subscription, asked: ReadPage) -> None:
        """Read the log. `Client.page_ended` follows in any case, unless the client has failed."""

    def reject(self, client: "Client", rejected: Sequence[Rejected], receipt: str | None) -> None:
        """Copy messages to `push.refused`.

        The answer comes by `Client.settled` or `Client.fail`, and then `Client.call_ended`.
        """


class Client:
    """One client, from the open WebSocket to its end. Implements `transport.interfaces.SocketHandler`."""

    __slots__ = (
        "_abandon_authentication",
        "_calls_in_flight",
        "_page_turns",
        "_pending_disconnect",
        "_resume_at",
        "_subscribe_rate",
        "_subscriptions_made",
        "_token",
        "deadlines",
        "ended",
        "entry_written",
        "is_registered",
        "registry_calls",
        "services",
        "sid",
        "socket",
        "socket_lost",
        "stomp",
        "subscriptions",
        "user",
        "waits_for_outbox",
    )

    def __init__(self, services: ClientServices, socket: ClientSocket, subprotocol: Version | None, token: str) -> None:
        """`token` came with the WebSocket handshake, or is empty."""
        self.services = services
        self.socket = socket
        self.stomp = StompSession(services.limits, subprotocol)
        self.sid = ""
        self.user = ""
        self.subscriptions: dict[str, Subscription] = {}
        self.ended = False
        """Whether the socket is closing or gone."""
        self.socket_lost = False
        """Whether the socket is gone, so that the session leaves the registry."""
        self.is_registered = False
        """Whether the session is registered. Before that, walks and resyncs skip it."""
        self.registry_calls = 0
        """Running registry calls that may write this session's entry. The entry is removed after the last one."""
        self.entry_written = False
        """Whether such a call was made. Without one there is no entry to remove, and nothing to wait for."""
        self._token = token
        self._abandon_authentication: Callable[[], object] | None = None
        self._calls_in_flight = 0
        self._pending_disconnect: Disconnect | None = None
        self._resume_at = NEVER
        """When to go on with frames that have arrived, after SUBSCRIBE and UNSUBSCRIBE came too fast."""
        self._subscribe_rate = RequestRate()
        self._subscriptions_made = 0
        self.waits_for_outbox = False
        """Whether a subscription waits for space in the outbox."""
        self._page_turns: PageTurns[Subscription] | None = None
        """Who reads pages of the log; None while nobody does."""
        self.deadlines = Deadlines(services.limits, services.clock())

    # SocketHandler

    def received(self, data: bytes | bytearray) -> None:
        """Handle bytes from the client."""
        self.deadlines.received_at = self.services.clock()
        try:
            self.stomp.receive(data)
        except ProtocolViolation as violation:
            self.fail(violation.ending, str(violation))
        self._handle_requests()

    def outbox_drained(self) -> None:
        """Continue the subscriptions that waited: the outbox has space again."""
        if not self.waits_for_outbox or self.ended:
            return
        self.waits_for_outbox = False
        for subscription in list(self.subscriptions.values()):
            subscription.proceed()
        self._read_pages()

    def refuse(self, close: Close) -> None:
        """End the connection with the text of the catalogue of close codes."""
        self.fail(close, close.sentence)

    def closing(self) -> None:
        """Stop writing: the socket has begun to close, so nothing more would arrive."""
        self.ended = True
        self._page_turns = None
        self.stomp.close()
        for subscription in self.subscriptions.values():
            subscription.ended = True

    def lost(self) -> None:
        """End the session: the socket is gone."""
        self.closing()
        self.socket_lost = True
        if self._abandon_authentication is not None:
            self._abandon_authentication()
        if self.user:
            self.services.leave(self)

    def left(self) -> None:
        """Forget the subscriptions: the session has left, and nobody asks for them any more.

        They refer to this client. So the session would be a cycle, which only a search by the garbage collector frees.
        """
        self.subscriptions.clear()

    def check_deadlines(self, now: float) -> float:
        """Do what is due, and return when to check again."""
        if now >= self._resume_at:
            self._resume(now)
        verdict = self.deadlines.check(now, written_at=self.socket.written_at)
        if verdict.close is not None:
            self.refuse(verdict.close)
        if verdict.send_heart_beat and not self.socket.outbox.paused:
            self.socket.send(HEART_BEAT)
        return min(verdict.look_again_at, self._resume_at)

    @property
    def version(self) -> Version:
        """The negotiated version of STOMP."""
        return self.stomp.version

    @property
    def wants_pings(self) -> bool:
        """Whether pings are needed because the client sends no heart-beats."""
        return not self.deadlines.expects_heart_beats

    # Answers of the services

    def authenticated(self, request: Connect, identity: AuthenticatedUser) -> None:
        """Continue CONNECT with the identified user."""
        self._abandon_authentication = None
        self.socket.mark_authenticated()
        self.user = identity.user
        self.sid = self.services.new_session_id()
        expires_at = NEVER
        if identity.expires_s is not None:
            expires_at = self.services.clock() + max(0.0, identity.expires_s - self.services.wall_clock())
        self.deadlines.connected(ours=self._offer(request.version), theirs=request.heart_beat, expires_at=expires_at)
        self.services.register(self)

    def registered(self) -> None:
        """Send CONNECTED: the session is registered."""
        self.is_registered = True
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

    def settled(self, subscription: Subscription, message_ids: list[StreamId], receipt: str | None) -> None:
        """Settle messages that were acknowledged, or copied to `push.refused` after a NACK. Then send the receipt."""
        subscription.settle(message_ids)
        self.send_receipt(receipt)

    def call_ended(self) -> None:
        """Note that the services have finished a SUBSCRIBE, UNSUBSCRIBE or NACK, with any result."""
        self._calls_in_flight -= 1
        if self._calls_in_flight == self.services.limits.max_calls_in_flight - 1 and not self.ended:
            self.socket.release_input()
            self._handle_requests()
        if self._pending_disconnect is not None and not self._calls_in_flight:
            self._leave(self._pending_disconnect)

    # Pages of the log

    def await_page(self, subscription: Subscription, asked: ReadPage) -> None:
        """Read a page once it is this subscription's turn."""
        if self.ended:
            return
        if self._page_turns is None:
            self._page_turns = PageTurns(self.services.limits.max_page_reads)
        self._page_turns.wait(subscription, asked)
        self._read_pages()

    def page_ended(self, subscription: Subscription, asked: ReadPage, page: LogPage | None) -> None:
        """Pass on a page that was read, then let others have their turn. None: nobody wants the page any more."""
        turns = self._page_turns
        if turns is None:
            return  # the client has ended
        turns.end(asked)
        if page is not None:
            subscription.page_read(asked, page)
        self._read_pages()
        if turns.at_rest:
            self._page_turns = None

    def _read_pages(self) -> None:
        turns = self._page_turns
        if turns is None or self.ended:
            return
        for subscription, page in turns.take(self.socket.outbox.free_bytes, len(self.subscriptions)):
            self.services.read_page(subscription, page)
        if turns.waits_for_space:
            self.waits_for_outbox = True

    # Ends

    def fail(self, close: Close, detail: str, receipt: str | None = None) -> None:
        """Send the reason in an ERROR frame, then close."""
        if self.ended:
            return
        headers = {"message": close.reason, "content-type": "text/plain"}
        if close is close_codes.UNSUPPORTED_VERSION:
            headers["version"] = ",".join(Version)
        if receipt is not None:
            headers["receipt-id"] = receipt
        if close.retry_after_ms is not None:
            headers["retry-after-ms"] = str(close.retry_after_ms)
        self._send(Frame("ERROR", headers, f"{detail}\n".encode()))
        self.close(close)

    def close(self, close: Close) -> None:
        """Close without an ERROR frame, because nothing is wrong with this client."""
        self.closing()
        self.socket.close(close)

    # Requests

    def _handle_requests(self) -> None:
        limit = self.services.limits.max_calls_in_flight
        try:
            while not self.ended and self._calls_in_flight < limit and self._resume_at == NEVER:
                request = self.stomp.next_request()
                if request is None:
                    return
                self._handle(request)
        except ProtocolViolation as violation:
            self.fail(violation.ending, str(violation), self.stomp.receipt)

    def _handle(self, request: Request) -> None:
        match request:
            case Acknowledge():
                self._apply_acknowledges((request,), request.receipt)
            case Commit():
                self._apply_acknowledges(request.acknowledges, request.receipt)
            case Subscribe():
                self._subscribe(request)
                self._slow_down()
            case Unsubscribe():
                self._unsubscribe(request)
                self._slow_down()
            case ReceiptDue():
                self.send_receipt(request.receipt)
            case Connect():
                self._connect(request)
            case Disconnect() if self._calls_in_flight:
                self._pending_disconnect = request
            case Disconnect():
                self._leave(request)

    def _connect(self, request: Connect) -> None:
        token, self._token = self._token, ""
        self.deadlines.connect_received()
        self.socket.hold_input()
        self._abandon_authentication = self.services.authenticate(self, request, token)

    def _offer(self, version: Version) -> HeartBeat:
        if version is Version.V1_0:
            return HeartBeat()
        return HeartBeat(self.services.limits.server_heart_beat_ms, self.services.limits.client_heart_beat_ms)

    def _subscribe(self, request: Subscribe) -> None:
        limit = self.services.limits.max_subscriptions
        if request.key in self.subscriptions:
            raise InvalidHeader("SUBSCRIBE", "id", request.key, "this session already has a subscription with this id")
        if len(self.subscriptions) >= limit:
            raise LimitExceeded("subscriptions of one session", limit)
        self._subscriptions_made += 1
        subscription = Subscription(self, request, self._subscriptions_made)
        self.subscriptions[request.key] = subscription
        self._call_begins()
        self.services.subscribe(self, subscription)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        subscription = self.subscriptions.pop(request.key, None)
        if subscription is None:
            raise InvalidHeader("UNSUBSCRIBE", "id", request.key, "this session has no such subscription")
        subscription.ended = True
        if self._page_turns is not None:
            self._page_turns.leave(subscription)
        self._call_begins()
        self.services.unsubscribe(self, subscription)
        subscription.send_receipt()
        self.send_receipt(request.receipt)

    def _apply_acknowledges(self, acknowledges: Sequence[Acknowledge], receipt: str | None) -> None:
        """Apply ACK and NACK frames. Send the RECEIPT when all of them are done."""
        # All are looked up before the first one is applied: a transaction takes effect as a whole or not at all.
        known, made = self.subscriptions, self._subscriptions_made
        found = [(find_acknowledged(each, known, made=made), each) for each in acknowledges]
        rejected: list[Rejected] = []
        for subscription, each in found:
            message_ids = [] if subscription is None else subscription.machine.covered(each.message_id)
            if subscription is None or not message_ids:
                continue  # unsubscribed or already acknowledged: both can happen while the client's frame travels
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
            self.send_receipt(receipt)

    def _leave(self, request: Disconnect) -> None:
        """Answer DISCONNECT: all earlier frames are done, as its RECEIPT promises (1.2, DISCONNECT)."""
        self._pending_disconnect = None
        for subscription in self.subscriptions.values():
            subscription.send_receipt()
        self.send_receipt(request.receipt)
        self.close(close_codes.CLIENT_DISCONNECTED)

    def _call_begins(self) -> None:
        self._calls_in_flight += 1
        if self._calls_in_flight == self.services.limits.max_calls_in_flight:
            self.socket.hold_input()

    def _slow_down(self) -> None:
        """Take nothing more from a client that subscribes and unsubscribes too fast, until `_resume`."""
        limits, now = self.services.limits, self.services.clock()
        next_at = self._subscribe_rate.take(now, burst=limits.subscribe_burst, per_s=limits.subscribes_per_s)
        if next_at > now:
            self._resume_at = next_at
            self.socket.hold_input()
            self.socket.wake_at(next_at)

    def _resume(self, now: float) -> None:
        self._resume_at = NEVER
        self.deadlines.received_at = now  # its heart-beats may wait behind what was held
        self.socket.release_input()
        self._handle_requests()

    def _send(self, frame: Frame) -> None:
        self.socket.send(encode_frame(frame, self.stomp.version))

    def send_receipt(self, receipt: str | None, headers: Mapping[str, str] | None = None) -> None:
        """Send a RECEIPT if the client asked for one."""
        if receipt is not None and not self.ended:
            self._send(Frame("RECEIPT", {"receipt-id": receipt, **(headers or {})}))
