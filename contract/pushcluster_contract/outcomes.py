"""Outcomes: what became of a message. A producer asks for them by `reply_to`, or over HTTP by `wait`.

The producer's address travels with the log entry and with each copy, so that the gateway that delivers the message can
answer.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.routing import SUBSCRIPTION_QUEUE_PREFIX

REPORT_TYPE: Final = "pushcluster.outcome"
"""AMQP `type` of a report."""
REPORT_CONTENT_TYPE: Final = "application/json"

_RESERVED_PREFIXES: Final = ("pushcluster.", "push.", SUBSCRIPTION_QUEUE_PREFIX)
"""Queues of the cluster itself. A producer must not make gateways or dispatchers write to them."""


class MessageOutcome(StrEnum):
    """What became of a message for one session."""

    ACKED = "acked"
    """The client acknowledged it (ack modes `client*`)."""
    WRITTEN = "written"
    """Ack mode `auto`: the socket took all of its bytes."""
    STORED = "stored"
    """No session has subscribed to the destination. The message waits in the log."""
    EXPIRED = "expired"
    """The message had expired before it could be written."""
    REJECTED = "rejected"
    """The client refused the message (NACK), or a dispatcher put it into `push.rejected`."""
    PENDING = "pending"
    """No outcome came in time. Only the HTTP API answers this; it is never sent over AMQP."""


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where a producer wants outcomes."""

    queue: str
    """AMQP's `reply_to`: a queue's name for the default exchange, 1 to 255 bytes."""
    correlation_id: str = ""

    def encode(self) -> str:
        """Return the address as one line of text."""
        return json.dumps([self.queue, self.correlation_id], ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """What a log entry and its copies carry: the address, and the sessions there when the message was appended."""

    address: ReplyAddress
    sessions: tuple[str, ...]

    def encode(self) -> str:
        """Return `<sid>[ <sid>]…` and, in a second line, the address. `lua/append.lua` builds the same form."""
        return f"{' '.join(self.sessions)}\n{self.address.encode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the request that `encode` encoded. Raise InvalidInput for any other text."""
        sessions, _, address = text.partition("\n")
        try:
            queue, correlation_id = json.loads(address)
        except (ValueError, TypeError):
            raise InvalidInput(f"{text[:100]!r} is not a reply request") from None
        return cls(ReplyAddress(str(queue), str(correlation_id)), tuple(sessions.split()))


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """One outcome, as the producer gets it."""

    outcome: MessageOutcome
    user: str = ""
    destination: str = ""
    message_id: str = ""
    """The stream id; empty when the message was not appended."""
    producer_message_id: str = ""
    session: str = ""
    """Empty: the outcome is that of the whole message."""
    gateway: str = ""
    """The pod's name."""
    sessions: tuple[str, ...] = ()
    """Sessions that existed when the message was appended. Once each has reported, no more outcomes follow."""
    reason: str = ""
    """Why a dispatcher rejected the message, in words."""
    cause: str = ""
    """The same in one word for programs: the label `reason` of `pushcluster_dispatcher_rejected_total`.

    Dispatchers of version 0.2 leave it out.
    """

    def encode(self) -> bytes:
        """Return the body of the AMQP message: a JSON object without empty values."""
        document: dict[str, Any] = {
            "outcome": self.outcome.value,
            "user": self.user,
            "destination": self.destination,
            "messageId": self.message_id,
            "producerMessageId": self.producer_message_id,
            "session": self.session,
            "gateway": self.gateway,
            "sessions": list(self.sessions),
            "reason": self.reason,
            "cause": self.cause,
        }
        present = {name: value for name, value in document.items() if value}
        return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the report that `encode` encoded. Raise InvalidInput for any other body."""
        try:
            document: dict[str, Any] = json.loads(body)
            return cls(
                outcome=MessageOutcome(document["outcome"]),
                user=str(document.get("user", "")),
                destination=str(document.get("destination", "")),
                message_id=str(document.get("messageId", "")),
                producer_message_id=str(document.get("producerMessageId", "")),
                session=str(document.get("session", "")),
                gateway=str(document.get("gateway", "")),
                sessions=tuple(map(str, document.get("sessions", ()))),
                reason=str(document.get("reason", "")),
                cause=str(document.get("cause", "")),
            )
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(f"{body[:100]!r} is not an outcome report") from None


def check_reply_queue(name: str) -> str:
    """Return a producer's `reply_to`. Raise InvalidInput when it names a queue of the cluster itself."""
    if name.startswith(_RESERVED_PREFIXES):
        raise InvalidInput(f"reply_to {name[:100]!r} is a queue of the cluster itself")
    return name
