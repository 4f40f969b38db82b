"""One message that a back end wants to publish, alone or in a batch. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import DESTINATION, forwarded_name, select_forwarded
from pushcluster_contract.outcomes import ReplyAddress

MAX_CONTENT_TYPE_BYTES: Final = 255
"""AMQP's `content_type` is a short string."""
PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class Publication:
    """A well-formed message."""

    user: str
    destination: Destination
    body: bytes
    message_id: str
    content_type: str | None = None
    expiration_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def properties(self, reply: ReplyAddress | None) -> BasicProperties:
        """Return the AMQP properties. `reply` is where outcomes are to go."""
        return BasicProperties(
            content_type=self.content_type,
            message_id=self.message_id,
            delivery_mode=PERSISTENT,
            expiration=None if self.expiration_ms is None else str(self.expiration_ms),
            reply_to=None if reply is None else reply.queue,
            correlation_id=None if reply is None else reply.correlation_id,
            headers={DESTINATION: str(self.destination), **self.headers},
        )


def check_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the headers that reach the client. Raises InvalidInput if they pass a limit or are not printable."""
    for name, value in headers.items():
        is_printable = name.isprintable() and (not isinstance(value, str) or value.isprintable())
        if forwarded_name(name) is not None and not is_printable:
            raise InvalidInput(f"header {name[:100]!r} is not printable Unicode")
    return select_forwarded(headers)


def check_content_type(content_type: str) -> str:
    """Return the content type. Raises InvalidInput if AMQP or STOMP cannot carry it."""
    if not content_type.isprintable() or len(content_type.encode()) > MAX_CONTENT_TYPE_BYTES:
        raise InvalidInput(
            f"the content type is longer than {MAX_CONTENT_TYPE_BYTES} bytes or contains a control character"
        )
    return content_type
