"""The index of this gateway: sessions by id, and subscriptions by user and destination. No I/O."""

from collections.abc import Iterator

from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.subscription import Subscription


class Hub:
    """All sessions of one gateway."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._subscriptions: dict[bytes, tuple[Subscription, ...]] = {}
        """Subscriptions by the address in their copies."""
        self._subscriptions_count = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def subscriptions_count(self) -> int:
        """Subscriptions of all sessions."""
        return self._subscriptions_count

    def add(self, client: Client) -> None:
        """Add a session."""
        self._clients[client.sid] = client

    def remove(self, client: Client) -> None:
        """Remove a session with all its subscriptions."""
        self._clients.pop(client.sid, None)
        for subscription in client.subscriptions.values():
            self.remove_subscription(subscription)

    def add_subscription(self, subscription: Subscription) -> None:
        """Add a subscription, so that copies reach it."""
        key = subscription.address
        self._subscriptions[key] = (*self._subscriptions.get(key, ()), subscription)
        self._subscriptions_count += 1

    def remove_subscription(self, subscription: Subscription) -> None:
        """Remove a subscription. Removing it twice is allowed."""
        key = subscription.address
        held = self._subscriptions.get(key, ())
        if subscription not in held:
            return
        self._subscriptions_count -= 1
        left = tuple(each for each in held if each is not subscription)
        if left:
            self._subscriptions[key] = left
        else:
            del self._subscriptions[key]

    def find(self, sid: str) -> Client | None:
        """Return a session, or None."""
        return self._clients.get(sid)

    def session_ids(self) -> list[str]:
        """Return the ids of all current sessions."""
        return list(self._clients)

    def subscriptions(self) -> Iterator[Subscription]:
        """Yield all subscriptions. The caller must not add or remove any meanwhile."""
        for held in self._subscriptions.values():
            yield from held

    def addressed(self, address: bytes) -> tuple[Subscription, ...]:
        """Return the subscriptions with this address."""
        return self._subscriptions.get(address, ())
