"""Outcomes: what became of a message, told to its producer (`reply_to`, and `wait` over HTTP).

The producer's address travels with the log entry and with each copy, so that whoever delivers the message can answer.
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
"""Queues of the cluster itself: gateways and dispatchers may write to them, producers may not have them do so."""


class MessageOutcome(StrEnum):
    """What became of a message for one session."""

    ACKED = "acked"
    """The client acknowledged it (ack modes `client*`)."""
    WRITTEN = "written"
    """Ack mode `auto`: the socket took all of its bytes."""
    STORED = "stored"
    """No session has the destination: it waits in the log."""
    EXPIRED = "expired"
    """It was too old when its turn came."""
    REJECTED = "rejected"
    """The client refused it, or it is in `push.rejected`."""
    PENDING = "pending"
    """Nothing was heard in time. Never sent, only answered by the HTTP API."""


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where a producer wants outcomes."""

    queue: str
    """AMQP's `reply_to`: a queue's name for the default exchange, 1 to 255 bytes."""
    correlation_id: str = ""

    def encode(self) -> str:
        """Return it as one line of text."""
        return json.dumps([self.queue, self.correlation_id], ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """What a log entry and its copies carry: the address, and who was there when the message was appended."""

    address: ReplyAddress
    sessions: tuple[str, ...]

    def encode(self) -> str:
        """Return `<sid>[ <sid>]…` and the address in a second line, the form that `lua/append.lua` makes too."""
        return f"{' '.join(self.sessions)}\n{self.address.encode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Undo `encode`; raises InvalidInput."""
        sessions, _, address = text.partition("\n")
        try:
            queue, correlation_id = json.loads(address)
        except (ValueError, TypeError):
            raise InvalidInput(f"{text[:100]!r} is no reply request") from None
        return cls(ReplyAddress(str(queue), str(correlation_id)), tuple(sessions.split()))


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """One outcome, as it goes back to the producer."""

    outcome: MessageOutcome
    user: str = ""
    destination: str = ""
    message_id: str = ""
    """The stream id; empty when the message was not appended."""
    producer_message_id: str = ""
    session: str = ""
    """Empty: it holds for the message as a whole."""
    gateway: str = ""
    """The pod's name."""
    sessions: tuple[str, ...] = ()
    """Session ids known when the message was appended: once each has reported, the producer has heard all."""
    reason: str = ""

    def encode(self) -> bytes:
        """Return the body of the AMQP message: a JSON object without what is empty."""
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
        }
        present = {name: value for name, value in document.items() if value}
        return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Undo `encode`; raises InvalidInput."""
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
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidInput(f"{body[:100]!r} is no outcome") from None


def check_reply_queue(name: str) -> str:
    """Return a producer's `reply_to` unless it names a queue of the cluster itself; else raise InvalidInput."""
    if name.startswith(_RESERVED_PREFIXES):
        raise InvalidInput(f"reply_to {name[:100]!r} is a queue of the cluster itself")
    return name
