"""What became of messages whose producers asked for it: noted as they are written, told once it is known.

Costs nothing for messages that nobody asks about. What is told may be lost, and then the producer hears nothing: the
log and the client's own acknowledgements do not depend on it.
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

MAX_UNTAKEN: Final = 10_000
"""Messages of one gateway that were asked about and that their sockets have not taken yet; others are not told of."""
LOOK_AGAIN_S: Final = 0.05
"""How often a socket is asked that had not taken all of a message at once."""

Tell = Callable[[ReplyAddress, OutcomeReport], None]
CallLater = Callable[[float, Callable[[], None]], object]


class _Untaken(NamedTuple):
    subscription: Subscription
    entry: LogEntry
    request: ReplyRequest
    end_offset: int
    """The connection's bytes up to the end of the message."""


class OutcomeReporter:
    """All outcomes of one gateway."""

    def __init__(self, tell: Tell, *, pod_name: str, metrics: Metrics, call_later: CallLater) -> None:
        self._tell_producer = tell
        self._pod_name = pod_name
        self._metrics = metrics
        self._call_later = call_later
        self._untaken: dict[Subscriber, deque[_Untaken]] = {}
        """Without the messages' bodies, in the order in which the client's socket takes them."""
        self._untaken_count = 0
        self._planned = False

    def wrote(self, subscription: Subscription, entry: LogEntry) -> None:
        """An entry whose producer asks was handed to the socket."""
        request = self._read(subscription, entry)
        if request is None:
            return
        if subscription.machine.window is not None:
            self._await_acknowledgement(subscription, entry, request)
        elif self._untaken_count < MAX_UNTAKEN:
            client = subscription.client
            untaken = _Untaken(subscription, entry._replace(body=b""), request, client.socket.outbox.end_offset)
            self._untaken.setdefault(client, deque()).append(untaken)
            self._untaken_count += 1
            self._plan(0.0)
        else:
            self._metrics.outcomes_dropped += 1

    def repeated(self, subscription: Subscription, entry: LogEntry) -> None:
        """A copy came of an entry that was written before: its producer has published it again, and asks again."""
        window = subscription.machine.window
        if window is not None and window.covered(entry.id, cumulative=False):
            request = self._read(subscription, entry)
            if request is not None:
                self._await_acknowledgement(subscription, entry, request)

    def expired(self, subscription: Subscription, entry: LogEntry) -> None:
        """An entry was too old when its turn came."""
        request = self._read(subscription, entry)
        if request is not None:
            self._tell(subscription, entry, request, MessageOutcome.EXPIRED)

    def settled(self, subscription: Subscription, message_ids: list[StreamId], outcome: MessageOutcome) -> None:
        """The client has acknowledged entries or refused them."""
        if subscription.asked:
            for message_id in message_ids:
                asked = subscription.asked.pop(message_id, None)
                if asked is not None:
                    self._tell(subscription, *asked, outcome)

    def _read(self, subscription: Subscription, entry: LogEntry) -> ReplyRequest | None:
        """Return what the producer asks of this subscription, None when it asks nothing of it.

        A session tells once: the oldest of its subscriptions to the destination speaks for the others.
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
        asked = subscription.asked = subscription.asked if subscription.asked is not None else {}
        # A log that was lost starts another window: what was asked about the old one is never answered.
        while len(asked) >= subscription.client.services.limits.max_unacked_messages:
            del asked[next(iter(asked))]
            self._metrics.outcomes_dropped += 1
        asked[entry.id] = (entry._replace(body=b""), request)

    def _plan(self, delay_s: float) -> None:
        if not self._planned:
            self._planned = True
            # After the flush that was planned when the message was added.
            self._call_later(delay_s, self._look)

    def _look(self) -> None:
        self._planned = False
        for client, waiting in list(self._untaken.items()):
            accepted = client.socket.sample_accepted()
            while waiting and waiting[0].end_offset <= accepted:
                taken = waiting.popleft()
                self._untaken_count -= 1
                self._tell(taken.subscription, taken.entry, taken.request, MessageOutcome.WRITTEN)
            if not waiting or client.ended:
                self._untaken_count -= len(waiting)
                del self._untaken[client]
        if self._untaken:
            self._plan(LOOK_AGAIN_S)

    def _tell(
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
        self._tell_producer(request.address, report)
