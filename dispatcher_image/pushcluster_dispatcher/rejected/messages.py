"""What a person sees of a rejected message, and what is published when it is replayed. Pure."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import DESTINATION, REJECT_REASON, REJECT_USER, select_forwarded
from pushcluster_contract.topology import PUSH_EXCHANGE
from pushcluster_dispatcher.messages import Rejection, parse_delivery
from pushcluster_runtime.amqp import Delivery

ID_CHARS: Final = 12
"""Of a SHA-256 in hex: enough that two of the 100,000 messages of a queue hardly ever share it."""
REPLAYED_ID_PREFIX: Final = "replay-"
PERSISTENT: Final = 2

_BROKERS_REASON: Final = "x-first-death-reason"


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """One message of a queue of rejected messages."""

    id: str
    """The same at each reading. Messages that are equal in everything have the same one."""
    user: str
    destination: str
    """As the producer wrote it; it may be what is wrong."""
    message_id: str
    content_type: str
    reason: str
    headers: dict[Any, Any]
    """Names and texts that are not UTF-8 are bytes."""
    body: bytes

    @classmethod
    def of(cls, delivery: Delivery) -> "RejectedMessage":
        """Return what a delivery says."""
        properties = delivery.properties
        headers = dict[Any, Any](properties.headers or {})
        user = _text(headers.pop(REJECT_USER, delivery.routing_key))
        reason = _text(headers.pop(REJECT_REASON, headers.get(_BROKERS_REASON, "")))
        destination, message_id = _text(headers.get(DESTINATION, "")), _text(properties.message_id or "")
        said = json.dumps((user, destination, message_id, reason)).encode()
        return cls(
            id=hashlib.sha256(said + delivery.body).hexdigest()[:ID_CHARS],
            user=user,
            destination=destination,
            message_id=message_id,
            content_type=_text(properties.content_type or ""),
            reason=reason,
            headers=headers,
            body=delivery.body,
        )

    def describe(self) -> str:
        """Return everything as JSON, in which nothing can move the cursor of a terminal."""
        try:
            body = {"body": self.body.decode()}
        except UnicodeDecodeError:
            body = {"bodyBase64": base64.b64encode(self.body).decode()}
        document = {
            "id": self.id,
            "user": self.user,
            "destination": self.destination,
            "messageId": self.message_id,
            "contentType": self.content_type,
            "reason": self.reason,
            "headers": _with_text_names(self.headers),
            **body,
        }
        return json.dumps(document, indent=2, default=_text)

    def summarize(self) -> str:
        """Return one line: id, user, destination, size, message id, reason, with tabs between them."""
        columns = (self.user, self.destination, f"{len(self.body)} B", self.message_id, self.reason)
        return "\t".join((self.id, *(printable(each) or "-" for each in columns)))


@dataclass(frozen=True, slots=True)
class Replay:
    """What is published to `push`."""

    user: str
    destination: str
    message_id: str
    body: bytes
    properties: BasicProperties


def build_replay(message: RejectedMessage, *, user: str | None = None, destination: str | None = None) -> Replay:
    """Return the message as it is published again, with another user or destination if one is given.

    Raise InvalidInput when a dispatcher would reject it once more. It gets a message id of its own, the same at each
    try: the old id may be known, and then the message would be taken for a retry and not be sent.
    """
    if not all(isinstance(name, str) for name in message.headers):
        raise InvalidInput("a header's name is not UTF-8 text")
    properties = BasicProperties(
        content_type=message.content_type or None,
        message_id=f"{REPLAYED_ID_PREFIX}{message.id}",
        delivery_mode=PERSISTENT,
        headers={DESTINATION: destination or message.destination, **select_forwarded(message.headers)},
    )
    published = Delivery(
        tag=0,
        exchange=PUSH_EXCHANGE,
        routing_key=user or message.user,
        redelivered=False,
        properties=properties,
        body=message.body,
        consumer_tag="",
    )
    parsed = parse_delivery(published)
    if isinstance(parsed, Rejection):
        raise InvalidInput(parsed.reason)
    return Replay(parsed.user, str(parsed.destination), parsed.message_id, parsed.body, properties)


def printable(text: str) -> str:
    """Return a text without characters that could move the cursor of a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _with_text_names(value: object) -> object:
    """Return a table with names that JSON can have, at every level."""
    if isinstance(value, dict):
        return {_text(name): _with_text_names(each) for name, each in value.items()}
    return [_with_text_names(each) for each in value] if isinstance(value, list) else value


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
