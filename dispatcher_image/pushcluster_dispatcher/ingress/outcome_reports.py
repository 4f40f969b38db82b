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
    """Return the outcomes of messages that no gateway gets a copy of. Gateways send the outcomes of the others.

    `now_ms` is called only for messages that were known already, because only they can have expired.
    """
    found = ((message, entry, _find_outcome(message, entry, now_ms)) for message, entry in appended if message.reply)
    return [
        (message.reply, _build_report(message, entry, outcome))
        for message, entry, outcome in found
        if message.reply is not None and outcome is not None
    ]


def _find_outcome(message: Message, entry: Appended, now_ms: Callable[[], int]) -> MessageOutcome | None:
    """Return what became of the message, or None if a gateway says it, or if nobody knows."""
    if not entry.known:
        return None if entry.sessions else MessageOutcome.STORED
    if entry.held is None:
        # It has left the log. If it could expire, it may have been too old when its turn came.
        return MessageOutcome.WRITTEN if entry.got and not message.ttl_ms else None
    if entry.sessions:
        return None
    if 0 < entry.expires_ms < now_ms():
        return MessageOutcome.EXPIRED
    return MessageOutcome.WRITTEN if entry.got else MessageOutcome.STORED


def _build_report(message: Message, entry: Appended, outcome: MessageOutcome) -> OutcomeReport:
    return OutcomeReport(
        outcome=outcome,
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
