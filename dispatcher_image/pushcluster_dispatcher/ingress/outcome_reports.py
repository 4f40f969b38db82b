"""The outcomes that a dispatcher itself sends to producers: stored, expired, rejected. Gateways send the rest. Pure."""

from collections.abc import Callable, Iterable

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.messages import Message, Rejection, parse_reply_address
from pushcluster_runtime.amqp import Delivery


def plan_reports(
    appended: Iterable[tuple[Message, Appended]], now_ms: Callable[[], int]
) -> list[tuple[ReplyAddress, OutcomeReport]]:
    """Return the outcomes of messages that no session gets now. Gateways send the outcomes of the others.

    A message that was appended earlier and has left the log since has none: nobody knows what became of it there.

    `now_ms` is called only for messages that were known already, because only they can have expired.
    """
    return [
        (message.reply, _build_report(message, entry, now_ms))
        for message, entry in appended
        if message.reply is not None and entry.stream_id and not entry.sessions
    ]


def _build_report(message: Message, entry: Appended, now_ms: Callable[[], int]) -> OutcomeReport:
    expired = entry.known and 0 < entry.expires_ms < now_ms()
    return OutcomeReport(
        outcome=MessageOutcome.EXPIRED if expired else MessageOutcome.STORED,
        user=message.user,
        destination=str(message.destination),
        message_id=entry.stream_id.decode(),
        producer_message_id=message.message_id,
    )


def plan_rejection(delivery: Delivery, rejection: Rejection) -> tuple[ReplyAddress, OutcomeReport] | None:
    """Return the outcome of a message that went to `push.rejected`. None if its producer cannot be told."""
    properties = delivery.properties
    try:
        if not properties.reply_to:
            return None
        address = parse_reply_address(properties)
    except InvalidInput:
        return None
    message_id = properties.message_id if isinstance(properties.message_id, str) else ""
    report = OutcomeReport(
        MessageOutcome.REJECTED,
        producer_message_id=message_id,
        reason=rejection.reason,
        cause=rejection.kind.value,
    )
    return address, report
