"""Times the copies that dispatchers have marked: from the dispatcher to this gateway, and on to the client's socket."""

from collections.abc import Callable, Sequence
from typing import Final

from pushcluster_contract.batch import CopySpan
from pushcluster_contract.copy_stamp import COPY_STAMP, CopyStamp
from pushcluster_contract.errors import InvalidInput
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.hops import Hop, HopTimes, Trace

MAX_BELIEVED_S: Final = 60.0
"""A copy that was under way for longer shows that a clock is wrong. Anybody with the broker's password can send one."""

_MARK: Final = COPY_STAMP.encode()


class FollowedCopy:
    """One copy of a batch, from its arrival to the write. Of several subscriptions that get it, the first is timed."""

    def __init__(self, number: int, times: HopTimes) -> None:
        """`number` is its position in the batch. It has arrived now."""
        self._number = number
        self._trace = Trace(times, (Hop.WRITTEN,))
        self._subscription: Subscription | None = None
        self._began_at = 0

    def begin(
        self, copies: Sequence[tuple[bytes, CopySpan]], find: Callable[[bytes], tuple[Subscription, ...]]
    ) -> None:
        """Note what its client's outbox holds, before the batch is delivered."""
        for subscription in find(copies[self._number][0])[:1] if self._number < len(copies) else ():
            self._subscription = subscription
            self._began_at = subscription.client.socket.outbox.end_offset

    def end(self) -> None:
        """Wait for the write, after the batch was delivered. A copy that caused none is not timed."""
        if self._subscription is not None:
            socket = self._subscription.client.socket
            if socket.outbox.end_offset > self._began_at:
                socket.when_written(self._written)

    def _written(self) -> None:
        self._trace.reached(Hop.WRITTEN)


class CopyHops:
    """Finds the marked messages among all that arrive."""

    def __init__(self, metrics: Metrics, wall_clock: Callable[[], float]) -> None:
        """`wall_clock` returns seconds since the epoch."""
        self._metrics = metrics
        self._wall_clock = wall_clock

    def find(self, delivery: Delivery) -> FollowedCopy | None:
        """Return the copy to follow in a message that has just arrived, or None."""
        raw = delivery.raw_properties
        return None if raw is None or _MARK not in raw else self._follow(delivery)

    def _follow(self, delivery: Delivery) -> FollowedCopy | None:
        metrics = self._metrics
        try:
            stamp = CopyStamp.parse((delivery.properties.headers or {}).get(COPY_STAMP))
        except InvalidInput:
            return None
        seconds = self._wall_clock() - stamp.sent_s
        if 0 <= seconds <= MAX_BELIEVED_S:
            metrics.hops.observe(Hop.COPY_READ, seconds)
        else:
            metrics.hop_clock_errors += 1
        return FollowedCopy(stamp.number, metrics.hops)
