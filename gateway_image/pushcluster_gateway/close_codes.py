"""Why a gateway closes a connection: the one catalogue of close codes, reasons and ERROR messages.

Codes below 3000 are those of RFC 6455, section 7.4. The codes from 4000 on are our own: 4000 to 4499 ask the client to
connect again; 4500 to 4999 say that the same attempt would fail in the same way.
"""

from dataclasses import dataclass, replace
from typing import Final

MAX_REASON_BYTES: Final = 123
"""RFC 6455, section 5.5: a control frame holds 125 bytes, and the code takes two of them."""


@dataclass(frozen=True, slots=True)
class Close:
    """One way to end a connection."""

    name: str
    """Label in metrics and logs."""
    code: int
    """WebSocket close code."""
    reason: str
    """Header `message` of the ERROR frame, and reason of the close frame."""
    retry_after_ms: int | None = None
    """When set, the ERROR frame carries it as the header `retry-after-ms`."""
    advice: str = ""
    """What the client should also know or do. Set where no frame of the client is at fault."""

    @property
    def sentence(self) -> str:
        """The body of the ERROR frame when nothing more is known about the particular case."""
        return f"{self.reason}: {self.advice}" if self.advice else self.reason


CLIENT_DISCONNECTED: Final = Close("client_disconnected", 1000, "goodbye")
DRAINING: Final = Close("draining", 1012, "this gateway stops, connect again")
INTERNAL_ERROR: Final = Close("internal_error", 1011, "internal error")
UNAVAILABLE: Final = Close("unavailable", 1013, "not available now, try again", retry_after_ms=2_000)
TOO_LARGE: Final = Close("too_large", 1009, "frame too large")

SLOW_CONSUMER: Final = Close(
    "slow_consumer",
    4001,
    "slow consumer",
    advice="the socket took nothing for too long; reconnect with last-message-id to miss nothing",
)
NO_HEART_BEAT: Final = Close(
    "no_heart_beat",
    4002,
    "no heart-beat from the client",
    advice="send heart-beats as often as the header heart-beat of CONNECTED asks, or offer none in CONNECT",
)
TOKEN_EXPIRED: Final = Close("token_expired", 4003, "token expired", advice="connect again with a new token")
NO_PONG: Final = Close("no_pong", 4004, "no pong from the client", advice="a WebSocket ping got no answer in time")
TOO_MANY_SESSIONS: Final = Close("too_many_sessions", 4005, "too many sessions of this user", retry_after_ms=10_000)
GAVE_WAY: Final = Close(
    "gave_way",
    4006,
    "this gateway is full, and CONNECT took too long",
    retry_after_ms=5_000,
    advice="send CONNECT with a valid token as soon as the WebSocket is open",
)

BAD_FRAME: Final = Close("bad_frame", 4500, "malformed frame")
NOT_AUTHENTICATED: Final = Close("not_authenticated", 4501, "not authenticated")
CONNECT_TIMEOUT: Final = Close(
    "connect_timeout", 4502, "no CONNECT frame in time", advice="send CONNECT as soon as the WebSocket is open"
)
BAD_REQUEST: Final = Close("bad_request", 4503, "bad request")
LIMIT_EXCEEDED: Final = Close("limit_exceeded", 4504, "limit exceeded")
BAD_DESTINATION: Final = Close("bad_destination", 4506, "bad destination")
SEND_REFUSED: Final = Close("send_refused", 4507, "SEND is refused")
UNSUPPORTED_VERSION: Final = Close("unsupported_version", 4508, "unsupported protocol version")
DISCONNECTED: Final = Close(
    "disconnected", 4510, "disconnected by the back end", advice="a back end ended this session over the HTTP API"
)

WEBSOCKET_ERROR: Final = Close("websocket_error", 1002, "the client's WebSocket broke the protocol")
CONNECTION_LOST: Final = Close("connection_lost", 1006, "the connection was lost")
"""Never sent: the socket went away without a close frame."""


def unavailable(retry_after_ms: int | None) -> Close:
    """Return UNAVAILABLE with the given `retry_after_ms`, or with its default when that is None."""
    return UNAVAILABLE if retry_after_ms is None else replace(UNAVAILABLE, retry_after_ms=retry_after_ms)


def too_large(max_bytes: int) -> Close:
    """Return TOO_LARGE for a WebSocket message, with the maximum size in its advice."""
    return replace(TOO_LARGE, advice=f"a WebSocket message has at most {max_bytes} bytes")


def too_much_before_connected(max_bytes: int) -> Close:
    """Return TOO_LARGE for a client whose token is not accepted yet, with the maximum in its advice."""
    return replace(TOO_LARGE, advice=f"before its CONNECT is accepted, a client sends at most {max_bytes} bytes")


ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Close))
