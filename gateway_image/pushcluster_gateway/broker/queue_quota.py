"""Which subscriptions have a queue of their own at the broker: there is memory for so many and no more. No I/O.

The bound is the whole cluster's, and each gateway takes an equal share of it by the number of gateways that it hears of
with its lease. So nobody counts together, and scaling restarts nothing. What gateways hold from a time when their share
was larger they give up as their walk comes by; until then all together hold less than twice the bound, because the old
ones hold at most all of it, and the new ones as well. The bound leaves room for that.
A subscription that was left without a queue goes on without one: room that becomes free is for those that come later.
"""

from collections.abc import Callable

from pushcluster_gateway.session.subscription import Subscription


class QueueQuota:
    """One gateway's share."""

    def __init__(self, queues: int, gateways: Callable[[], int], *, max_per_session: int) -> None:
        """`queues`: of all gateways together; `gateways` says how many these are, by the leases in Redis."""
        self._queues = queues
        self._gateways = gateways
        self._max_per_session = max_per_session
        self._holders: set[Subscription] = set()

    def __len__(self) -> int:
        """Return how many subscriptions have a place."""
        return len(self._holders)

    @property
    def share(self) -> int:
        """How many may have one."""
        return self._queues // max(1, self._gateways())

    @property
    def is_exceeded(self) -> bool:
        """Whether more have one."""
        return len(self._holders) > self.share

    def acquire(self, subscription: Subscription) -> bool:
        """Have a place for this subscription, also where it has one already; False: there is none."""
        self._holders.discard(subscription)
        if len(self._holders) >= self.share or self._is_full(subscription):
            return False
        self._holders.add(subscription)
        return True

    def release(self, subscription: Subscription) -> None:
        """Undo `take`; twice is allowed."""
        self._holders.discard(subscription)

    def _is_full(self, subscription: Subscription) -> bool:
        """Whether its session has as many as one may have."""
        theirs = subscription.client.subscriptions.values()
        return sum(each in self._holders for each in theirs) >= self._max_per_session
