"""Which subscriptions have a queue of their own. The broker has memory for a limited number of queues. No I/O.

The bound is for the whole cluster. Each gateway takes an equal share of it. It learns the number of gateways with each
lease renewal, so no shared counter is needed and scaling restarts nothing. When its share becomes smaller, a gateway
closes the surplus queues during its walk. Until then all gateways together hold less than twice the bound: the old
gateways hold at most all of it, and the new ones as well. The broker's memory allows for that.

A subscription without a queue stays without one. Slots that become free are for later subscriptions.
"""

from collections.abc import Callable

from pushcluster_gateway.session.subscription import Subscription


class QueueQuota:
    """One gateway's share of the subscription queues."""

    def __init__(self, queues: int, gateways: Callable[[], int], *, max_per_session: int) -> None:
        """`queues` is the bound of all gateways together. `gateways` returns their number, by the leases in Redis."""
        self._queues = queues
        self._gateways = gateways
        self._max_per_session = max_per_session
        self._holders: set[Subscription] = set()

    def __len__(self) -> int:
        """Return how many subscriptions hold a slot."""
        return len(self._holders)

    @property
    def share(self) -> int:
        """How many subscriptions may hold a slot."""
        return self._queues // max(1, self._gateways())

    @property
    def is_exceeded(self) -> bool:
        """Whether more subscriptions hold a slot than the share allows."""
        return len(self._holders) > self.share

    def acquire(self, subscription: Subscription) -> bool:
        """Take a slot for this subscription, or confirm the one that it has. Return False when there is none."""
        self._holders.discard(subscription)
        if len(self._holders) >= self.share or self._is_full(subscription):
            return False
        self._holders.add(subscription)
        return True

    def release(self, subscription: Subscription) -> None:
        """Undo `acquire`. Releasing twice is allowed."""
        self._holders.discard(subscription)

    def _is_full(self, subscription: Subscription) -> bool:
        """Return whether the session of this subscription has reached its own maximum."""
        theirs = subscription.client.subscriptions.values()
        return sum(each in self._holders for each in theirs) >= self._max_per_session
