"""What a SUBSCRIBE asks of the broker and when, what becomes of one that is answered late, and one CONNECT too many."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.control import CONTROL_TYPE, Disconnect
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import ZERO_ID
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth.authenticator import TrustedAuthenticator
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.close_codes import Close
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.gateway import Gateway
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.registry.cursor_flusher import CursorFlusher
from pushcluster_gateway.registry.lease_keeper import LeaseKeeper
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.delivery import LogPage, LogState
from pushcluster_gateway.session.errors import TooManySessions
from pushcluster_gateway.transport.outbox import Outbox
from pushcluster_runtime.amqp import Delivery
from tests.support.clock import ManualClock
from tests.support.waiting import eventually

LIMITS = Limits(leaving_session_s=0.05, own_queue_after_s=0.1)
CONNECT = b"CONNECT\naccept-version:1.2\nhost:x\nlogin:alice\n\n\0"


class FakeSocket:
    """Takes everything and sends nothing."""

    def __init__(self) -> None:
        self.outbox = Outbox(LIMITS)
        self.written_at = 0.0
        self.cause_name = "lost"
        self.closed: Close | None = None

    def send(self, data: bytes) -> None: ...
    def close(self, close: Close) -> None:
        self.closed = close

    def hold_input(self) -> None: ...
    def release_input(self) -> None: ...
    def mark_authenticated(self) -> None: ...
    def wake_at(self, due: float) -> None: ...
    def sample_accepted(self) -> int:
        return 0


@dataclass
class World:
    """Registry and broker that note what they are asked, and let a SUBSCRIBE wait at one of its two steps."""

    held_at: str
    asked: list[str] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    """When what may be held was asked, seconds of the loop."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: int = 0
    """How many REGISTER are refused, because the user has too many sessions."""
    lost: int = 0
    """Sessions of the user at lost gateways."""
    redis_answering_s: float = 3_600
    without_queue: list[bool] = field(default_factory=list)
    """What each script was to write into the entry."""
    away: bool = False
    """Whether no lease can be had."""
    redis_ms: int = 0
    """Redis TIME."""

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        self.asked_at.append(asyncio.get_running_loop().time())
        if what.split(maxsplit=1)[0] == self.held_at:
            await self.release.wait()

    async def open_queue(self, routing_key: str, *_: object) -> str:
        await self._ask(f"queue {routing_key}")
        return "the queue"

    async def close_queue(self, name: str) -> None:
        self.asked.append(f"close {name}")

    def send_outcome(self, *_: object) -> None: ...

    async def advance_cursors(self, _: object) -> None: ...

    async def advance_cursor(self, _: object) -> None: ...

    async def ensure_lease(self) -> None:
        if self.held_at == "lease":
            await self.release.wait()
        if self.away:
            raise Unavailable("Redis: connection refused")

    async def register(self, *_: str) -> None:
        await self._ask("register")
        if self.refuses:
            self.refuses -= 1
            raise TooManySessions(5)

    async def refresh_member(self, *_: str) -> None:
        self.asked.append("walk")

    async def remove_lost(self, user: str) -> int:
        await self._ask(f"remove {user}")
        return self.lost

    async def subscribe(self, *_: object, without_queue: bool, given: object) -> tuple[LogState, int]:  # noqa: ARG002
        await self._ask("script")
        self.without_queue.append(without_queue)
        return LogState(0, ZERO_ID, ZERO_ID, ZERO_ID, 1), self.redis_ms

    async def read_page(self, *_: object) -> LogPage:
        return LogPage((), cut=False)

    async def unsubscribe(self, *_: str | Destination) -> None:
        self.asked.append("unsubscribe")

    async def leave(self, *_: str) -> None:
        self.asked.append("leave")


def build_client(world: World, environment: Environment | None = None) -> tuple[Gateway, Client]:
    metrics = Metrics()
    gateway = Gateway(
        mode=RoutingMode.SESSION,
        pod_name="gateway",
        server_name="test",
        limits=LIMITS,
        metrics=metrics,
        authenticator=TrustedAuthenticator(),
        environment=environment or Environment(asyncio.get_running_loop().time, lambda: 0.0, bytes, lambda: 0.5),
    )
    registry = cast(SessionRegistry, world)
    gateway.attach(
        registry=registry,
        broker=cast(BrokerLink, world),
        lease_keeper=cast(LeaseKeeper, world),
        cursors=CursorFlusher(registry, metrics),
        quota=QueueQuota(10, lambda: 1, max_per_session=8),
    )
    return gateway, Client(gateway, cast(Any, FakeSocket()), None, "")


async def connect_and_subscribe(world: World) -> tuple[Gateway, Client]:
    """Return once the SUBSCRIBE waits where it is held."""
    gateway, client = build_client(world)
    client.received(CONNECT)
    await eventually(lambda: world.asked == ["register"], within_s=2)
    client.received(b"SUBSCRIBE\nid:0\ndestination:/user/queue/demo\n\n\0")
    await eventually(lambda: any(each.startswith(world.held_at) for each in world.asked), within_s=2)
    return gateway, client


@asynccontextmanager
async def running_queues(gateway: Gateway) -> AsyncIterator[None]:
    """Let the gateway open queues inside the block."""
    task = asyncio.create_task(gateway.queues.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_client_that_subscribes_and_unsubscribes_in_a_loop_costs_the_broker_nothing() -> None:
    world = World("")
    gateway, client = build_client(world)
    async with running_queues(gateway):
        client.received(CONNECT)
        for n in range(20):
            client.received(b"SUBSCRIBE\nid:%d\ndestination:/user/queue/demo\n\n\0" % n)
            await gateway.wait_for_tasks(within_s=2)
            client.received(b"UNSUBSCRIBE\nid:%d\n\n\0" % n)
            await gateway.wait_for_tasks(within_s=2)
        client.received(b"SUBSCRIBE\nid:last\ndestination:/user/queue/lasts\n\n\0")
        await eventually(lambda: f"queue lasts-user{client.sid}" in world.asked, within_s=2)
    assert world.asked[:42] == ["register", *(["script", "unsubscribe"] * 20), "script"]
    assert [each for each in world.asked if "queue" in each] == [f"queue lasts-user{client.sid}"]


async def test_a_subscription_that_lasts_gets_its_own_queue_and_then_tells_redis() -> None:
    world = World("")
    gateway, client = build_client(world)
    async with running_queues(gateway):
        began_at = asyncio.get_running_loop().time()
        client.received(CONNECT)
        await gateway.wait_for_tasks(within_s=2)
        client.received(b"SUBSCRIBE\nid:0\ndestination:/user/queue/demo\n\n\0")
        await eventually(lambda: len(world.asked) >= 4, within_s=2)
    assert world.asked == ["register", "script", f"queue demo-user{client.sid}", "script"]
    assert world.without_queue == [True, False]
    assert world.asked_at[2] - began_at >= LIMITS.own_queue_after_s - 0.001, "the loop's clock counts milliseconds"


async def test_a_session_that_left_while_it_subscribed_does_not_come_back() -> None:
    """Its entry, written after it was removed, would stand there until the gateway's end."""
    world = World("script")
    gateway, client = await connect_and_subscribe(world)
    client.lost()
    world.release.set()
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "script", "leave"]


async def test_a_session_that_left_while_its_queue_was_opened_leaves_no_queue_and_does_not_come_back() -> None:
    world = World("queue")
    gateway, client = build_client(world)
    async with running_queues(gateway):
        client.received(CONNECT)
        await gateway.wait_for_tasks(within_s=2)
        client.received(b"SUBSCRIBE\nid:0\ndestination:/user/queue/demo\n\n\0")
        await eventually(lambda: world.asked[-1].startswith("queue"), within_s=2)
        client.lost()
        await eventually(lambda: world.asked[-1] == "leave", within_s=2)
        world.release.set()
        await eventually(lambda: world.asked[-1] == "close the queue", within_s=2)
        await gateway.wait_for_tasks(within_s=2)
    assert world.asked.count("script") == 1


async def test_a_destination_that_was_left_while_it_was_subscribed_does_not_stay_in_the_entry() -> None:
    world = World("script")
    gateway, client = await connect_and_subscribe(world)
    client.received(b"UNSUBSCRIBE\nid:0\n\n\0")
    await eventually(lambda: "unsubscribe" in world.asked, within_s=2)
    world.asked.clear()
    world.release.set()
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["unsubscribe"], "once more, after the script that wrote the destination"


async def test_what_a_gateway_takes_for_redis_time_does_not_move_with_its_wall_clock() -> None:
    """It decides which messages have expired. A wall clock may be set at any time, by hand or by NTP."""
    clock, wall_clock = ManualClock(), ManualClock()
    world = World("", redis_ms=1_700_000_000_000)
    gateway, client = build_client(world, Environment(clock, wall_clock, bytes, lambda: 0.5))
    client.received(CONNECT)
    await gateway.wait_for_tasks(within_s=2)
    client.received(b"SUBSCRIBE\nid:0\ndestination:/user/queue/demo\n\n\0")
    await eventually(lambda: "script" in world.asked, within_s=2)
    await eventually(lambda: gateway.redis_now_ms() == 1_700_000_000_000, within_s=2)
    wall_clock.now += 120
    assert gateway.redis_now_ms() == 1_700_000_000_000
    wall_clock.now -= 240
    clock.now += 1.5
    assert gateway.redis_now_ms() == 1_700_000_001_500
    world.redis_ms += 60_000
    await gateway.refresh(client, resync=False)
    assert gateway.redis_now_ms() == 1_700_000_060_000, "a step of Redis TIME counts from its next answer on"
    client.lost()


@pytest.mark.parametrize(
    ("user", "changed", "ends"),
    [
        ("alice", {}, True),
        ("bob", {}, False),
        ("alice", {"pc-control": "reboot"}, False),
        ("alice", {"pc-user": 7}, False),
    ],
)
async def test_a_session_ends_when_a_dispatcher_says_so_and_names_its_user(
    user: str, changed: dict[str, Any], ends: bool
) -> None:
    world = World("script")
    gateway, client = await connect_and_subscribe(world)
    headers: dict[str, Any] = {**Disconnect(user, client.sid).headers(), **changed}
    properties = BasicProperties(type=CONTROL_TYPE, headers=headers)
    gateway.on_gateway_message(Delivery(1, "", "queue", False, properties, b"", "c"))
    assert client.ended is ends
    world.release.set()
    await gateway.wait_for_tasks(within_s=2)


async def connect(world: World) -> tuple[Gateway, Client, FakeSocket]:
    gateway, client = build_client(world)
    client.received(CONNECT)
    return gateway, client, cast(FakeSocket, client.socket)


async def test_a_user_at_the_session_limit_gets_the_slot_of_a_lost_gateways_session() -> None:
    world = World("", refuses=1, lost=2)
    gateway, _, socket = await connect(world)
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "remove alice", "register"]
    assert socket.closed is None
    assert gateway.metrics.lost_sessions_removed == 2


@pytest.mark.parametrize(("short_by_s", "asked"), [(0.0, True), (0.001, False)])
async def test_from_when_on_gateways_are_taken_for_lost(short_by_s: float, asked: bool) -> None:
    world = World("", refuses=1, lost=2, redis_answering_s=LIMITS.lost_gateway_s - short_by_s)
    gateway, _, _ = await connect(world)
    await gateway.wait_for_tasks(within_s=2)
    assert ("remove alice" in world.asked) is asked


async def test_while_redis_has_not_answered_for_long_no_gateway_is_taken_for_lost() -> None:
    """After an outage every lease has run out, and each gateway renews its own when its turn comes."""
    world = World("", refuses=2, lost=2, redis_answering_s=LIMITS.lost_gateway_s - 1)
    gateway, _, socket = await connect(world)
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "register"]
    assert socket.closed is close_codes.TOO_MANY_SESSIONS


async def test_a_page_that_is_loaded_again_waits_for_its_old_session_to_leave() -> None:
    world = World("", refuses=9)
    gateway, client, socket = await connect(world)
    asyncio.get_running_loop().call_later(LIMITS.leaving_session_s / 5, setattr, world, "refuses", 0)
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "remove alice", "register"]
    assert (socket.closed, client.ended) == (None, False)


async def test_a_connect_at_the_session_limit_waits_once_and_for_the_whole_time() -> None:
    world = World("", refuses=9)
    gateway, _, socket = await connect(world)
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "remove alice", "register"]
    assert socket.closed is close_codes.TOO_MANY_SESSIONS
    _, removed_at, last_at = world.asked_at
    assert last_at - removed_at >= LIMITS.leaving_session_s - 0.001, "the loop's clock counts milliseconds"


async def test_the_walk_does_not_refuse_a_session_that_waits_for_a_free_slot() -> None:
    world = World("", refuses=9)
    gateway, client, socket = await connect(world)
    await eventually(lambda: "remove alice" in world.asked, within_s=2)
    await gateway.refresh(client, resync=True)
    world.refuses = 0
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "remove alice", "register"]
    assert (socket.closed, client.ended) == (None, False)


async def test_the_walk_writes_a_session_only_once_it_was_registered() -> None:
    """Nobody would ever look at an entry without a lease; and nothing that is refused is to wait for Redis."""
    world = World("lease")
    gateway, client, _ = await connect(world)
    await gateway.refresh(client, resync=False)
    assert (world.asked, client.entry_written) == ([], False)
    world.release.set()
    await gateway.wait_for_tasks(within_s=2)
    await gateway.refresh(client, resync=False)
    assert world.asked == ["register", "walk", "register"]


async def test_a_client_that_leaves_while_it_waits_for_a_free_slot_is_not_registered() -> None:
    world = World("", refuses=1)
    gateway, client, _ = await connect(world)
    await eventually(lambda: "remove alice" in world.asked, within_s=2)
    client.lost()
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == ["register", "remove alice", "leave"]


@pytest.mark.parametrize("away", [True, False])
async def test_a_session_that_never_was_in_the_registry_has_nothing_to_leave(away: bool) -> None:
    """What waited for Redis to remove it would be one task for each CONNECT that is refused meanwhile."""
    world = World("lease", away=away)
    gateway, client, socket = await connect(world)
    if away:
        world.release.set()
        await eventually(lambda: socket.closed is not None, within_s=2)
    client.lost()
    world.release.set()
    await gateway.wait_for_tasks(within_s=2)
    assert world.asked == []
