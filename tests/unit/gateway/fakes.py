"""As much of clients, subscriptions and the registry as the parts between them look at."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from pushcluster_contract.batch import Address
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.registry.store import CursorMove, Renewal
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.copy_path import CopyPath
from pushcluster_gateway.session.subscription import Subscription

DEMO = Destination("queue", "demo")


class FakeClient:
    """As much of a Client as Hub and CursorFlusher look at."""

    def __init__(self, user: str, sid: str) -> None:
        self.user = user
        self.sid = sid
        self.ended = False
        self.subscriptions: dict[str, Any] = {}
        self.got: list[LogEntry] = []

    def subscribe(self, key: str, destination: Destination = DEMO) -> "FakeSubscription":
        self.subscriptions[key] = FakeSubscription(self, destination)
        return cast(FakeSubscription, self.subscriptions[key])


class FakeSubscription:
    def __init__(self, client: FakeClient, destination: Destination) -> None:
        self.client = client
        self.destination = destination
        self.address = Address.of(client.user, destination).data
        self.path = CopyPath()
        self.ended = False
        self.flush_scheduled = False
        self.moves: list[tuple[StreamId, StreamId]] = []
        self.has_unflushed = False

    def copy_arrived(self, entry: LogEntry) -> None:
        self.client.got.append(entry)

    def cursor_to_flush(self) -> tuple[StreamId, StreamId] | None:
        return self.moves.pop(0) if self.moves else None


def as_client(fake: FakeClient) -> Client:
    return cast(Client, fake)


def as_subscription(fake: FakeSubscription) -> Subscription:
    return cast(Subscription, fake)


class FakeRegistry:
    def __init__(self) -> None:
        self.away = False
        self.broken = False
        self.moves: list[CursorMove] = []
        self.round_trips: list[int] = []
        """Cursors in each."""
        self.renewals: list[Renewal] = []
        self.asked = 0
        """Renewals that were tried."""
        self.renewed = 0
        self.broker_away_s = -1.0
        """What the last renewal told."""

    async def advance_cursors(self, moves: Sequence[CursorMove]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        if self.broken:
            raise ValueError("broken")
        self.moves += moves
        self.round_trips.append(len(moves))

    async def advance_cursor(self, move: CursorMove) -> None:
        await self.advance_cursors([move])

    async def renew_lease(self, broker_away_s: float) -> Renewal:
        self.asked += 1
        self.broker_away_s = broker_away_s
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        self.renewed += 1
        return self.renewals.pop(0) if self.renewals else Renewal(existed=True, run_id="r", gateways=2)
