"""Reports the outcomes of messages to producers who asked for them.

Messages without such a request take no extra work. A report may be lost, and then the producer gets none. The log and
the client's acknowledgements do not depend on reports.

A producer may publish a message again, and ask what became of it long ago. Nothing is kept for that except what clients
refused: every entry up to a subscription's position has expired, was refused, or was got by its client or by an earlier
session of the user.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress, ReplyRequest
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.subscription import Subscriber, Subscription
from pushcluster_gateway.session.write_looks import WriteLooks

MAX_PENDING_WRITES: Final = 10_000
"""Messages of one gateway that wait for their clients' TCP and need an outcome. Outcomes of others are dropped."""
WRITE_CHECK_INTERVAL_S: Final = 0.05
"""How often to ask `WriteLooks` which sockets to look at, while a client has not acknowledged all of a message."""

SendOutcome = Callable[[ReplyAddress, OutcomeReport], None]
CallLater = Callable[[float, Callable[[], None]], object]


class _PendingWrite(NamedTuple):
    subscription: Subscription
    entry: LogEntry
    request: ReplyRequest
    end_offset: int
    """The position of the end of the message, in bytes of the connection."""


class OutcomeReporter:
    """All outcomes of one gateway."""

    def __init__(
        self,
        send: SendOutcome,
        *,
        pod_name: str,
        metrics: Metrics,
        call_later: CallLater,
        clock: Callable[[], float],
    ) -> None:
        self._send_to_producer = send
        self._pod_name = pod_name
        self._metrics = metrics
        self._call_later = call_later
        self._clock = clock
        self._pending_writes: dict[Subscriber, deque[_PendingWrite]] = {}
        """Entries without their bodies, in the order in which they were written."""
        self._pending_writes_count = 0
        self._looks = WriteLooks[Subscriber]()
        self._planned = False

    def wrote(self, subscription: Subscription, entry: LogEntry) -> None:
        """Note an entry that was passed to the socket and whose producer wants outcomes."""
        request = self._read(subscription, entry)
        if request is None:
            return
        if subscription.machine.window is not None:
            self._await_acknowledgement(subscription, entry, request)
        else:
            self._await_write(subscription, entry, request)

    def _await_write(self, subscription: Subscription, entry: LogEntry, request: ReplyRequest) -> None:
        if self._pending_writes_count < MAX_PENDING_WRITES:
            client = subscription.client
            pending = _PendingWrite(subscription, entry._replace(body=b""), request, client.socket.outbox.end_offset)
            self._pending_writes.setdefault(client, deque()).append(pending)
            self._pending_writes_count += 1
            self._looks.add(client, self._clock())
            self._plan(0.0)
        else:
            self._metrics.outcomes_dropped += 1

    def repeated(self, subscription: Subscription, entry: LogEntry) -> None:
        """Report what became of an entry before: its producer published it again and wants outcomes."""
        request = self._read(subscription, entry)
        if request is None:
            return
        window = subscription.machine.window
        if window is not None and window.holds(entry.id):
            self._await_acknowledgement(subscription, entry, request)
        elif 0 < entry.expires_ms < subscription.client.services.redis_now_ms():
            return  # nobody knows whether it was written before it expired
        elif entry.id <= subscription.started_after:
            self._report(subscription, entry, request, MessageOutcome.WRITTEN)
        elif window is None:
            self._await_write(subscription, entry, request)
        else:
            was_refused = subscription.was_refused(entry.id)
            if was_refused is not None:
                outcome = MessageOutcome.REJECTED if was_refused else MessageOutcome.ACKED
                self._report(subscription, entry, request, outcome)

    def expired(self, subscription: Subscription, entry: LogEntry) -> None:
        """Report an entry that expired before it was written."""
        request = self._read(subscription, entry)
        if request is not None:
            self._report(subscription, entry, request, MessageOutcome.EXPIRED)

    def settled(self, subscription: Subscription, message_ids: list[StreamId], outcome: MessageOutcome) -> None:
        """Report entries that the client has acknowledged or refused."""
        if outcome is MessageOutcome.REJECTED:
            subscription.note_refused(message_ids)
        if subscription.outcome_requests:
            for message_id in message_ids:
                asked = subscription.outcome_requests.pop(message_id, None)
                if asked is not None:
                    self._report(subscription, *asked, outcome)

    def _read(self, subscription: Subscription, entry: LogEntry) -> ReplyRequest | None:
        """Return the producer's request to this subscription, or None without one.

        A session reports once: only the oldest of its subscriptions to the destination does.
        """
        try:
            request = ReplyRequest.parse(entry.reply)
        except InvalidInput:
            return None
        client = subscription.client
        if client.sid not in request.sessions:
            return None
        same = (each for each in client.subscriptions.values() if each.destination == subscription.destination)
        return request if next(same, None) is subscription else None

    def _await_acknowledgement(self, subscription: Subscription, entry: LogEntry, request: ReplyRequest) -> None:
        asked = subscription.outcome_requests = (
            subscription.outcome_requests if subscription.outcome_requests is not None else {}
        )
        # A new log starts a new window, so requests about the old one may stay here unanswered.
        while len(asked) >= subscription.client.services.limits.max_unacked_messages:
            del asked[next(iter(asked))]
            self._metrics.outcomes_dropped += 1
        asked[entry.id] = (entry._replace(body=b""), request)

    def _plan(self, delay_s: float) -> None:
        if not self._planned:
            self._planned = True
            # This runs after the flush that was planned when the message was added.
            self._call_later(delay_s, self._check_writes)

    def _check_writes(self) -> None:
        self._planned = False
        now = self._clock()
        for client in self._looks.take_due(now):
            waiting, accepted = self._pending_writes[client], client.socket.sample_accepted()
            while waiting and waiting[0].end_offset <= accepted:
                arrived = waiting.popleft()
                self._pending_writes_count -= 1
                self._report(arrived.subscription, arrived.entry, arrived.request, MessageOutcome.WRITTEN)
            if not waiting or client.ended:
                self._pending_writes_count -= len(waiting)
                del self._pending_writes[client]
                self._looks.remove(client)
            else:
                self._looks.looked(client, accepted, now)
        if self._pending_writes:
            self._plan(WRITE_CHECK_INTERVAL_S)

    def _report(
        self, subscription: Subscription, entry: LogEntry, request: ReplyRequest, outcome: MessageOutcome
    ) -> None:
        client = subscription.client
        report = OutcomeReport(
            outcome=outcome,
            user=client.user,
            destination=str(subscription.destination),
            message_id=str(entry.id),
            producer_message_id=entry.producer_message_id,
            session=client.sid,
            gateway=self._pod_name,
            sessions=request.sessions,
        )
        self._send_to_producer(request.address, report)
