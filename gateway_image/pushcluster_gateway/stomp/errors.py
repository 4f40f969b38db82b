"""What a client can do wrong. Each error carries its facts, and `close` says how the connection ends.

ProtocolViolation
├── MalformedFrame        the bytes are not a STOMP frame
├── FrameTooLarge         a frame has more bytes than allowed
├── TooManyHeaders        a frame has more header lines than allowed
├── UnexpectedFrame       a command is unknown, or not allowed now
├── InvalidHeader         a header is missing, or its value breaks a rule
├── UnsupportedVersion    client and gateway have no version in common
├── InvalidDestination    the destination is not one of the user's own
├── SendRefused           clients may not send messages
├── LimitExceeded         the session has more of something than allowed
└── Unauthenticated       the client did not prove who it is
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from pushcluster_contract.errors import PushClusterError
from pushcluster_gateway import close_codes
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.stomp.frames import Version


@dataclass(eq=False)
class ProtocolViolation(PushClusterError):
    """The client broke a rule. It gets an ERROR frame with this text, then the gateway closes the connection."""

    close: ClassVar[Close] = close_codes.BAD_FRAME

    @property
    def ending(self) -> Close:
        """How the connection ends: `close`, with what is known about this case."""
        return self.close


@dataclass(eq=False)
class MalformedFrame(ProtocolViolation):
    """The bytes are not a STOMP frame."""

    detail: str

    def __str__(self) -> str:
        return f"malformed frame: {self.detail}"


@dataclass(eq=False)
class FrameTooLarge(ProtocolViolation):
    """A frame, or its command and headers, has more bytes than allowed."""

    close: ClassVar[Close] = close_codes.TOO_LARGE
    part: str
    max_bytes: int

    def __str__(self) -> str:
        return f"{self.part} has more than {self.max_bytes} bytes"


@dataclass(eq=False)
class TooManyHeaders(ProtocolViolation):
    """A frame has more header lines than allowed."""

    max_headers: int

    def __str__(self) -> str:
        return f"the frame has more than {self.max_headers} headers"


@dataclass(eq=False)
class UnexpectedFrame(ProtocolViolation):
    """A command is unknown, or not allowed now."""

    close: ClassVar[Close] = close_codes.BAD_REQUEST
    command: str
    rule: str

    def __str__(self) -> str:
        return f"unexpected frame {self.command[:50]!r}: {self.rule}"


@dataclass(eq=False)
class InvalidHeader(ProtocolViolation):
    """A header is missing (value None), or its value breaks the rule."""

    close: ClassVar[Close] = close_codes.BAD_REQUEST
    command: str
    header: str
    value: str | None
    rule: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.command} has no header {self.header!r}: {self.rule}"
        return f"{self.command} has header {self.header!r} with value {self.value[:100]!r}: {self.rule}"


@dataclass(eq=False)
class UnsupportedVersion(ProtocolViolation):
    """Client and gateway have no version in common."""

    close: ClassVar[Close] = close_codes.UNSUPPORTED_VERSION
    accept_version: str

    def __str__(self) -> str:
        return f"accept-version is {self.accept_version[:100]!r}; supported are {','.join(Version)}"


@dataclass(eq=False)
class InvalidDestination(ProtocolViolation):
    """The destination is one to which no user can subscribe."""

    close: ClassVar[Close] = close_codes.BAD_DESTINATION
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(eq=False)
class SendRefused(ProtocolViolation):
    """The client sent SEND, which is not allowed: only back ends publish."""

    close: ClassVar[Close] = close_codes.SEND_REFUSED

    def __str__(self) -> str:
        return "SEND is refused: this gateway only pushes to clients; back ends publish over AMQP or HTTP"


@dataclass(eq=False)
class LimitExceeded(ProtocolViolation):
    """The session has more of something than allowed."""

    close: ClassVar[Close] = close_codes.LIMIT_EXCEEDED
    what: str
    limit: int

    def __str__(self) -> str:
        return f"more than {self.limit} {self.what}"


@dataclass(eq=False)
class Unauthenticated(ProtocolViolation):
    """The client did not prove who it is."""

    close: ClassVar[Close] = close_codes.NOT_AUTHENTICATED
    detail: str
    retry_after_ms: int | None = None
    """When the same attempt may succeed. None: never."""

    @property
    def ending(self) -> Close:
        """See ProtocolViolation."""
        return self.close if self.retry_after_ms is None else replace(self.close, retry_after_ms=self.retry_after_ms)

    def __str__(self) -> str:
        return f"not authenticated: {self.detail}"
