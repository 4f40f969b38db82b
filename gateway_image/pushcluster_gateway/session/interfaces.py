"""What the parts of a gateway need of each other: socket, handler, server, and the services behind all clients."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from websockets.http11 import Request, Response

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.delivery import ReadPage
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_gateway.stomp.serializer import TailEncoder
from pushcluster_gateway.transport.admission import CutCause
from pushcluster_gateway.transport.handshake import ServerHandshake
from pushcluster_gateway.transport.outbox import Outbox
from pushcluster_gateway.transport.protocol_pool import ProtocolPool

if TYPE_CHECKING:
    from pushcluster_gateway.session.client import Client
    from pushcluster_gateway.session.outcomes import OutcomeReporter
    from pushcluster_gateway.session.subscription import Subscription
    from pushcluster_gateway.transport.connection import WebSocketConnection
    from pushcluster_gateway.transport.pending import PendingConnection
    from pushcluster_gateway.transport.timer_wheel import TimerWheel


class ClientSocket(Protocol):
    """One client's socket."""

    outbox: Outbox
    written_at: float
    """When data was last written, seconds of `Services.clock`."""

    @property
    def cause_name(self) -> str:
        """Why it closed, as in `closes`; empty while it is open."""

    def send(self, data: bytes) -> None:
        """Write bytes as one WebSocket message."""

    def send_message(self, head: bytes, tail: bytes) -> None:
        """Do the same for a MESSAGE, which counts in the outbox's bounds; `head` is UTF-8."""

    def close(self, close: Close) -> None:
        """Write what waits, then close."""

    def hold_input(self) -> None:
        """Read nothing more until `release_input`."""

    def release_input(self) -> None:
        """Undo one `hold_input`."""

    def sample_accepted(self) -> int:
        """Return how many bytes of `outbox.written_bytes` the kernel has certainly taken."""

    def mark_authenticated(self) -> None:
        """Give way to nobody from now on: the client has proved who it is."""

    def wake_at(self, due: float) -> None:
        """Have deadlines checked at this time, seconds of `Services.clock`."""


class SocketHandler(Protocol):
    """What speaks over a socket. Called on the event loop, never again after `lost`."""

    def received(self, data: bytes | bytearray) -> None:
        """Bytes of a text or binary message, or a piece of one."""

    def room_freed(self) -> None:
        """The socket has taken what waited."""

    def refuse(self, close: Close) -> None:
        """Say why, then close: the socket found the reason."""

    def closing(self) -> None:
        """The socket has begun to close: nothing that is written from now on arrives."""

    def lost(self) -> None:
        """The socket is gone."""

    def check_deadlines(self, now: float) -> float:
        """Do what is due, and return when to ask again (seconds of the loop's clock)."""

    @property
    def wants_pings(self) -> bool:
        """Whether nothing else shows that the client is alive."""


class Host(Protocol):
    """What a connection needs of the server that it belongs to."""

    limits: Limits
    clock: Callable[[], float]
    wheel: "TimerWheel[PendingConnection | WebSocketConnection]"
    protocols: ProtocolPool

    def new_handshake(self) -> ServerHandshake:
        """Return what takes one request to open a WebSocket."""

    def admit(self, pending: "PendingConnection") -> bool:
        """Note a new socket; False when it must be cut at once."""

    def mark_authenticated(self, connection: "WebSocketConnection") -> None:
        """The connection's client has proved who it is: it does not give way to others any more."""

    def forget_pending(self, pending: "PendingConnection") -> None:
        """The socket is gone, or a connection has taken it over."""

    def forget(self, connection: "WebSocketConnection") -> None:
        """The connection is gone."""

    def answer_handshake(self, handshake: ServerHandshake, request: Request) -> Response:
        """Accept or refuse a WebSocket handshake."""

    def count_refusal(self, response: Response) -> None:
        """A request was refused."""

    def count_cut(self, cut: CutCause) -> None:
        """A socket ended without an answer."""

    def open_handler(
        self, connection: "WebSocketConnection", request: Request, subprotocol: str | None
    ) -> SocketHandler:
        """Take a connection whose handshake was accepted, and return what speaks over it."""

    def plan_flush(self, connection: "WebSocketConnection") -> None:
        """Have the connection flushed at the end of this tick of the event loop."""


class Rejected(NamedTuple):
    """Messages of one subscription that its client refused by NACK."""

    subscription: "Subscription"
    message_ids: list[StreamId]


class ClientServices(Protocol):
    """What stands behind all clients of one gateway. Every method returns at once; answers come as calls."""

    limits: Limits
    metrics: Metrics
    tails: TailEncoder
    outcomes: "OutcomeReporter"
    server_name: str
    pod_name: str
    clock: Callable[[], float]
    """Seconds of the event loop."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""

    def redis_now_ms(self) -> int:
        """Return Redis TIME in ms, as far as is known."""

    def new_session_id(self) -> str:
        """Return an id that was never used."""

    def authenticate(self, client: "Client", request: Connect, handshake_token: str) -> Callable[[], object] | None:
        """Find out who the client is; answers by `Client.authenticated` or `Client.fail`, or raises Unauthenticated.

        Returns what gives it up, if it takes longer than this call.
        """

    def register(self, client: "Client") -> None:
        """Write the session into the registry; answers by `Client.registered` or `Client.fail`."""

    def leave(self, client: "Client") -> None:
        """Take the session out of everything."""

    def subscribe(self, subscription: "Subscription") -> None:
        """Do step G3; answers by `ClientSubscription.subscribed` or `Client.fail`, and `Client.call_ended`."""

    def unsubscribe(self, subscription: "Subscription") -> None:
        """Undo step G3; answers by `Client.call_ended`."""

    def read_page(self, subscription: "Subscription", asked: ReadPage) -> None:
        """Read the log; answers by `ClientSubscription.page_read`."""

    def reject(self, client: "Client", rejected: "Sequence[Rejected]", receipt: str | None) -> None:
        """Copy messages to `push.rejected`; answers by `Client.settled` or `Client.fail`, and `Client.call_ended`."""

    def cursor_moved(self, subscription: "Subscription") -> None:
        """Have the subscription's cursor flushed within about a second."""
