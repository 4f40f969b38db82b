"""Where values enter: settings, copies; and the parts between clients and shells: hub, batches, cursors, keeper."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract import env
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.headers import COPY_DESTINATION, COPY_EXPIRES_MS, COPY_ID, COPY_USER
from pushcluster_contract.ids import StreamId
from pushcluster_contract.limits import LEASE_MS
from pushcluster_contract.log import LogEntry
from pushcluster_contract.routing import RoutingMode
from pushcluster_gateway.auth import JwtAuthenticator, Trusted, build_authenticator
from pushcluster_gateway.batching import Batcher
from pushcluster_gateway.client import Client
from pushcluster_gateway.client_subscription import ClientSubscription
from pushcluster_gateway.copies import Copy, parse_copy
from pushcluster_gateway.cursors import CursorFlusher
from pushcluster_gateway.hub import Hub
from pushcluster_gateway.keeper import DEAF_AFTER_S, Keeper
from pushcluster_gateway.lease import Cause
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.outside import Outside
from pushcluster_gateway.registry import CursorMove, Registry, Renewal
from pushcluster_gateway.settings import AuthMode, Settings
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.frames import HeartBeat, Version
from pushcluster_gateway.stomp.requests import Connect
from pushcluster_runtime.settings import Environment
from tests.support.waiting import eventually

DEMO = Destination("queue", "demo")
ENVIRONMENT = {
    env.CLUSTER: "default.demo",
    env.POD_NAME: "gateway-0",
    env.POD_UID: "uid",
    env.AMQP_URL: "amqp://u:secret-a@host/v",
    env.REDIS_URL: "redis://:secret-b@host",
    env.JWT_KEY: "secret-c" * 4,
}


def settings(**variables: str) -> Settings:
    return Settings.parse(Environment(ENVIRONMENT | {getattr(env, name): value for name, value in variables.items()}))


class TestSettings:
    def test_what_is_not_set_has_a_default(self) -> None:
        parsed = settings()
        assert parsed.routing_mode is RoutingMode.SESSION
        assert parsed.auth_mode is AuthMode.JWT
        assert (parsed.ws_port, parsed.admin_port, parsed.max_connections) == (8080, 9090, 20_000)
        assert parsed.allowed_origins == ()

    def test_origins_are_parted_by_spaces(self) -> None:
        assert settings(ALLOWED_ORIGINS="https://a  https://b").allowed_origins == ("https://a", "https://b")

    def test_secrets_are_not_shown(self) -> None:
        assert "secret" not in repr(settings())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("JWT_KEY", "x" * 31),
            ("CLUSTER", "No Cluster"),
            ("ROUTING_MODE", "Anycast"),
            ("AUTH_MODE", "None"),
            ("MAX_CONNECTIONS", "0"),
            ("WS_PORT", "70000"),
            ("DRAIN_SECONDS", "-1"),
            ("POD_UID", ""),
        ],
    )
    def test_a_wrong_value_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(InvalidInput):
            settings(**{name: value})

    def test_in_mode_trusted_there_is_no_key(self) -> None:
        parsed = settings(AUTH_MODE="Trusted", JWT_KEY="")
        assert isinstance(build_authenticator(parsed, lambda: 0.0), Trusted)
        assert isinstance(build_authenticator(settings(), lambda: 0.0), JwtAuthenticator)


def test_in_mode_trusted_the_user_is_the_login() -> None:
    def connect(login: str) -> Connect:
        return Connect(Version.V1_2, HeartBeat(), login, "")

    assert Trusted().identify(connect("alice"), "").user == "alice"
    for login in ("", "x" * 256, "a\nb"):
        with pytest.raises(Unauthenticated):
            Trusted().identify(connect(login), "")


class TestCopies:
    headers: dict[str, Any] = {COPY_ID: "5-2", COPY_USER: "alice", COPY_DESTINATION: "/queue/demo"}  # noqa: RUF012

    def test_a_copy_is_read(self) -> None:
        properties = BasicProperties(
            content_type="text/plain",
            message_id="m",
            headers={**self.headers, COPY_EXPIRES_MS: 9, "x-a": "1", "x-death": [], "pc-seq": 3},
        )
        entry = LogEntry(StreamId(5, 2), b"body", "text/plain", "m", {"x-a": "1"}, 9)
        assert parse_copy(properties, b"body") == Copy("alice", DEMO, entry)

    @pytest.mark.parametrize("name", [COPY_ID, COPY_USER, COPY_DESTINATION])
    def test_a_copy_without_its_headers_is_none(self, name: str) -> None:
        for wrong in ({**self.headers, name: None}, {**self.headers, name: 5}):
            with pytest.raises(InvalidInput, match=name):
                parse_copy(BasicProperties(headers=wrong), b"")

    @pytest.mark.parametrize("wrong", [{COPY_ID: "x"}, {COPY_DESTINATION: "/queue/a.b"}, {COPY_EXPIRES_MS: "soon"}])
    def test_a_copy_with_wrong_headers_is_none(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            parse_copy(BasicProperties(headers=self.headers | wrong), b"")

    def test_a_message_without_headers_is_no_copy(self) -> None:
        with pytest.raises(InvalidInput):
            parse_copy(BasicProperties(), b"")


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

    def copy_arrived(self, _: "FakeSubscription", entry: LogEntry) -> None:
        self.got.append(entry)


class FakeSubscription:
    def __init__(self, client: FakeClient, destination: Destination) -> None:
        self.client = client
        self.destination = destination
        self.ended = False
        self.moves: list[tuple[StreamId, StreamId]] = []
        self.has_unflushed = False

    def cursor_to_flush(self) -> tuple[StreamId, StreamId] | None:
        return self.moves.pop(0) if self.moves else None


def as_client(fake: FakeClient) -> Client:
    return cast(Client, fake)


def as_subscription(fake: FakeSubscription) -> ClientSubscription:
    return cast(ClientSubscription, fake)


class TestHub:
    def test_a_copy_reaches_every_subscription_of_its_user_and_destination_and_no_other(self) -> None:
        hub = Hub()
        alice, phone, bob = FakeClient("alice", "a"), FakeClient("alice", "p"), FakeClient("bob", "b")
        for client in (alice, phone, bob):
            hub.add(as_client(client))
            hub.add_subscription(as_subscription(client.subscribe("0")))
        hub.add_subscription(as_subscription(alice.subscribe("1", Destination("topic", "demo"))))
        entry = LogEntry(StreamId(1, 1), b"")
        assert hub.dispatch(Copy("alice", DEMO, entry)) == 2
        assert (len(alice.got), len(phone.got), len(bob.got)) == (1, 1, 0)
        assert hub.dispatch(Copy("carol", DEMO, entry)) == 0

    def test_a_session_that_left_leaves_nothing(self) -> None:
        hub = Hub()
        alice = FakeClient("alice", "a")
        hub.add(as_client(alice))
        for key in ("0", "1"):
            hub.add_subscription(as_subscription(alice.subscribe(key)))
        assert (len(hub), hub.subscriptions_count, hub.session_ids()) == (1, 2, ["a"])
        subscription = as_subscription(alice.subscriptions["0"])
        hub.remove_subscription(subscription)
        hub.remove_subscription(subscription)
        assert hub.subscriptions_count == 1
        hub.remove(as_client(alice))
        assert (len(hub), hub.subscriptions_count, hub.find("a"), list(hub.subscriptions())) == (0, 0, None, [])
        assert hub.dispatch(Copy("alice", DEMO, LogEntry(StreamId(1, 1), b""))) == 0


class TestBatcher:
    async def test_what_comes_in_one_tick_runs_together_in_bounded_batches(self) -> None:
        batches: list[list[int]] = []

        async def run_many(items: Sequence[int]) -> list[int]:
            batches.append(list(items))
            return [item * 10 for item in items]

        batcher = Batcher(run_many, max_batch=3)
        assert await asyncio.gather(*(batcher.run(n) for n in range(5))) == [0, 10, 20, 30, 40]
        assert batches == [[0, 1, 2], [3, 4]]

    async def test_what_comes_while_a_batch_runs_waits_for_it(self) -> None:
        running = 0

        async def run_many(items: Sequence[int]) -> Sequence[int]:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
            return items

        batcher = Batcher(run_many, max_batch=2)
        assert await asyncio.gather(*(batcher.run(n) for n in range(20))) == list(range(20))

    async def test_one_error_is_one_items_and_a_failed_batch_is_everybodys(self) -> None:
        async def run_many(items: Sequence[int]) -> list[Any]:
            if 9 in items:
                raise Unavailable("away")
            return [ValueError("no") if item == 1 else item for item in items]

        batcher = Batcher(run_many, max_batch=2)
        got = await asyncio.gather(*(batcher.run(n) for n in (0, 1, 9, 3, 4)), return_exceptions=True)
        assert [type(each) for each in got] == [int, ValueError, Unavailable, Unavailable, int]

    async def test_after_close_nothing_runs_and_nobody_waits(self) -> None:
        release = asyncio.Event()
        finished: list[int] = []

        async def run_many(items: Sequence[int]) -> Sequence[int]:
            await release.wait()
            finished.extend(items)
            return items

        batcher = Batcher(run_many, max_batch=1)
        running, waiting = (asyncio.create_task(batcher.run(n)) for n in (1, 2))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        release.set()
        await closing
        assert await running == 1
        assert finished == [1]
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def test_a_caller_that_left_disturbs_nobody(self) -> None:
        async def run_many(items: Sequence[int]) -> Sequence[int]:
            await asyncio.sleep(0)
            return items

        batcher = Batcher(run_many, max_batch=5)
        leaves = asyncio.create_task(batcher.run(1))
        stays = asyncio.create_task(batcher.run(2))
        await asyncio.sleep(0)
        leaves.cancel()
        assert await stays == 2


class FakeRegistry:
    def __init__(self) -> None:
        self.away = False
        self.moves: list[CursorMove] = []
        self.renewals: list[Renewal] = []
        self.renewed = 0

    async def advance_cursors(self, moves: Sequence[CursorMove]) -> None:
        if self.away:
            raise Unavailable("away")
        self.moves += moves

    async def renew_lease(self) -> Renewal:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        self.renewed += 1
        return self.renewals.pop(0) if self.renewals else Renewal(existed=True, run_id="r")


class TestCursors:
    def flusher(self) -> tuple[CursorFlusher, FakeRegistry]:
        registry = FakeRegistry()
        return CursorFlusher(cast(Registry, registry), Metrics()), registry

    async def test_what_redis_did_not_take_is_kept_and_only_the_furthest_of_it(self) -> None:
        cursors, registry = self.flusher()
        alice = FakeClient("alice", "a").subscribe("0")
        registry.away = True
        for seq in (3, 2):
            alice.moves.append((StreamId(1, seq), StreamId(1, seq + 5)))
            cursors.collect(as_subscription(alice))
            with pytest.raises(Unavailable):
                await cursors.flush()
        registry.away = False
        await cursors.flush()
        assert registry.moves == [CursorMove("alice", DEMO, StreamId(1, 3), StreamId(1, 8))]
        await cursors.flush()
        assert len(registry.moves) == 1

    async def test_nothing_new_is_not_told(self) -> None:
        cursors, registry = self.flusher()
        cursors.collect(as_subscription(FakeClient("alice", "a").subscribe("0")))
        await cursors.flush()
        assert registry.moves == []


class TestKeeper:
    def keeper(
        self, refresh: Callable[[Client, bool], Any] | None = None, walk_round_s: float = 100
    ) -> tuple[Keeper, FakeRegistry, Hub, list[float]]:
        now = [1_000.0]
        registry, hub = FakeRegistry(), Hub()

        async def nothing(client: Client, resync: bool) -> None:
            pass

        keeper = Keeper(
            registry=cast(Registry, registry),
            hub=hub,
            refresh=refresh or nothing,
            metrics=Metrics(),
            outside=Outside(lambda: now[0], lambda: 0.0, lambda size: b"x" * size, lambda: 0.5),
            walk_round_s=walk_round_s,
        )
        return keeper, registry, hub, now

    async def test_without_a_lease_it_is_renewed_before_a_session_is_registered(self) -> None:
        keeper, registry, _, now = self.keeper()
        before = keeper.lease_held
        await keeper.ensure_lease()
        after = keeper.lease_held
        now[0] += LEASE_MS / 1_000
        assert (before, after, keeper.lease_held) == (False, True, False)
        registry.away = True
        with pytest.raises(Unavailable):
            await keeper.ensure_lease()

    async def test_while_the_lease_is_held_nobody_asks_redis(self) -> None:
        keeper, registry, _, _ = self.keeper()
        await keeper.ensure_lease()
        registry.away = True
        await keeper.ensure_lease()

    async def test_many_sessions_without_a_lease_ask_for_one_together(self) -> None:
        keeper, registry, _, _ = self.keeper()
        await asyncio.gather(*(keeper.ensure_lease() for _ in range(20)))
        assert registry.renewed == 1

    async def test_a_process_that_does_not_even_try_to_renew_is_stuck(self) -> None:
        keeper, registry, _, now = self.keeper()
        registry.away = True
        now[0] += DEAF_AFTER_S - 1
        assert keeper.alive
        with pytest.raises(Unavailable):
            await keeper.renew()
        now[0] += 2
        assert keeper.alive, "it tried, and Redis is away"
        now[0] += DEAF_AFTER_S
        assert not keeper.alive

    async def test_a_resync_writes_every_session_back_whatever_one_of_them_does(self) -> None:
        refreshed: list[str] = []

        async def refresh(client: Client, resync: bool) -> None:
            if client.sid == "broken":
                raise ValueError("this user's keys are broken")
            refreshed.append(client.sid)
            assert resync

        keeper, registry, hub, _ = self.keeper(refresh)
        for sid in ("a", "broken", "b"):
            hub.add(as_client(FakeClient("alice", sid)))
        await keeper.ensure_lease()
        registry.renewals = [Renewal(existed=False, run_id="r")]
        walk = asyncio.create_task(keeper.run_walk())
        await keeper.renew()
        await eventually(lambda: refreshed == ["a", "b"], within_s=2)
        walk.cancel()

    async def test_a_resync_that_redis_cut_short_is_repeated(self) -> None:
        attempts: list[str] = []

        async def refresh(client: Client, resync: bool) -> None:
            attempts.append(client.sid)
            if len(attempts) == 1:
                raise Unavailable("away")

        keeper, _, hub, _ = self.keeper(refresh)
        hub.add(as_client(FakeClient("alice", "a")))
        keeper.request_resync(Cause.REDIS_RESTARTED)
        walk = asyncio.create_task(keeper.run_walk())
        await eventually(lambda: len(attempts) == 2, within_s=2)
        walk.cancel()

    async def test_the_walk_looks_at_every_session_once_a_round(self) -> None:
        keeper, _, hub, _ = self.keeper(walk_round_s=10)
        for n in range(35):
            hub.add(as_client(FakeClient("alice", f"s{n}")))
        steps = [keeper.next_step() for _ in range(11)]
        assert {len(step) for step in steps[:10]} <= {3, 4}
        assert sorted(sid for step in steps[:10] for sid in step) == sorted(hub.session_ids())

    async def test_one_session_is_not_looked_at_more_often_than_once_a_round(self) -> None:
        keeper, _, hub, _ = self.keeper(walk_round_s=10)
        hub.add(as_client(FakeClient("alice", "s")))
        assert sum(len(keeper.next_step()) for _ in range(40)) in {3, 4}
