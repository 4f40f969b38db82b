"""The hops of a marked copy: which copy is timed, until which write, and what a wrong clock does."""

from collections.abc import Callable
from typing import Any, Final, cast

import pytest
from pika.spec import BasicProperties
from prometheus_client import CollectorRegistry

from pushcluster_contract.batch import BATCH_TYPE, Address, encode_batch, encode_copy
from pushcluster_contract.copy_stamp import COPY_STAMP, CopyStamp
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.broker.copy_hops import MAX_BELIEVED_S, CopyHops
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.hub import Hub
from pushcluster_gateway.transport.outbox import Outbox
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.amqp.frames import encode_properties
from pushcluster_runtime.hops import GATEWAY_HOPS, HopTimes
from tests.support.clock import ManualClock
from tests.unit.gateway.fakes import DEMO, FakeClient, FakeSubscription, as_client, as_subscription

WALL_S: Final = 1_700_000_000.0
UNDER_WAY_S: Final = 0.25


class WatchedSocket:
    """As much of a socket as is looked at here; the test says when it has written."""

    def __init__(self) -> None:
        self.outbox = Outbox(Limits())
        self.waiting: list[Callable[[], None]] = []

    def when_written(self, on_written: Callable[[], None]) -> None:
        self.waiting.append(on_written)


class Device(FakeClient):
    """Writes each copy to its outbox while it is live."""

    def __init__(self, user: str, sid: str) -> None:
        super().__init__(user, sid)
        self.live = True
        self.socket = WatchedSocket()


class LiveSubscription(FakeSubscription):
    client: Any

    def copy_arrived(self, entry: LogEntry) -> None:
        if self.client.live:
            self.client.socket.outbox.add(entry.body)


class Bench:
    """Alice with two devices, and bob."""

    def __init__(self) -> None:
        self.hub, self.clock, self.registry = Hub(), ManualClock(), CollectorRegistry()
        times = HopTimes("gateway", GATEWAY_HOPS, registry=self.registry, clock=self.clock)
        self.metrics = Metrics(hops=times)
        self.hops = CopyHops(self.metrics, lambda: WALL_S + UNDER_WAY_S)
        self.reader = CopyReader(self.hub, self.metrics, on_left_out=lambda: None)
        self.alice, self.phone, self.bob = Device("alice", "a"), Device("alice", "p"), Device("bob", "b")
        for client in (self.alice, self.phone, self.bob):
            self.hub.add(as_client(client))
            self.hub.add_subscription(as_subscription(LiveSubscription(client, DEMO)))

    def arrive(self, *users: str, number: int, at: Device | None = None) -> None:
        """Let a batch with one copy for each of these users arrive, at the gateway's queue or a subscription's."""
        stamp = CopyStamp(WALL_S, number).encode()
        delivery = marked({COPY_STAMP: stamp, "pc-seq": 7}, *users)
        followed = self.hops.find(delivery)
        assert followed is not None
        self.clock.now += 2
        if at is None:
            self.reader.read_gateway_batch(delivery.body, followed)
        else:
            (subscription,) = (each for each in self.hub.subscriptions() if each.client is cast(Any, at))
            self.reader.read_subscription_batch(subscription, delivery.body, followed)

    def totals(self, hop: str) -> tuple[float | None, float | None]:
        value, name = self.registry.get_sample_value, "pushcluster_gateway_hop_seconds"
        return value(f"{name}_count", {"hop": hop}), value(f"{name}_sum", {"hop": hop})


def marked(headers: dict[str, Any], *users: str) -> Delivery:
    properties = encode_properties(BasicProperties(type=BATCH_TYPE, headers=headers))
    body = encode_batch([encode_copy(Address.of(user, DEMO), b"5-2", b"hi") for user in users])
    return Delivery(1, "", "queue", False, properties, body, "c")


def test_the_way_to_the_gateway_and_that_to_the_socket_have_their_own_times() -> None:
    bench = Bench()
    bench.arrive("bob", number=0)
    assert (bench.totals("copy_read"), bench.totals("written")) == ((1, UNDER_WAY_S), (0, 0))
    bench.clock.now += 4
    (written,) = bench.bob.socket.waiting
    written()
    assert (bench.totals("copy_read"), bench.totals("written")) == ((1, UNDER_WAY_S), (1, 6))


def test_the_marked_copy_is_timed_and_no_other() -> None:
    bench = Bench()
    bench.arrive("alice", "bob", "alice", number=1)
    assert [len(each.socket.waiting) for each in (bench.alice, bench.phone, bench.bob)] == [0, 0, 1]


def test_of_several_subscriptions_one_is_timed() -> None:
    bench = Bench()
    bench.arrive("alice", number=0)
    assert [len(each.socket.waiting) for each in (bench.alice, bench.phone, bench.bob)] == [1, 0, 0]


def test_in_a_subscriptions_queue_that_subscription_is_timed() -> None:
    bench = Bench()
    bench.arrive("alice", number=0, at=bench.phone)
    assert [len(each.socket.waiting) for each in (bench.alice, bench.phone, bench.bob)] == [0, 1, 0]
    bench.arrive("bob", number=0, at=bench.phone)
    assert [len(each.socket.waiting) for each in (bench.alice, bench.phone, bench.bob)] == [0, 1, 0]


def test_a_copy_that_causes_no_write_is_not_timed_further() -> None:
    bench = Bench()
    bench.bob.live = False
    bench.arrive("bob", number=0)
    bench.arrive("nobody", number=0)
    assert bench.bob.socket.waiting == []
    assert bench.totals("copy_read") == (2, 2 * UNDER_WAY_S)


def test_a_mark_beyond_the_batch_does_no_harm() -> None:
    bench = Bench()
    bench.arrive("bob", number=1)
    bench.arrive(number=0)
    assert bench.bob.socket.waiting == []


@pytest.mark.parametrize("sent_s", [WALL_S + UNDER_WAY_S + 0.001, WALL_S + UNDER_WAY_S - MAX_BELIEVED_S - 0.001, 0.0])
def test_a_time_that_cannot_be_is_counted_apart_and_the_write_is_timed_all_the_same(sent_s: float) -> None:
    bench = Bench()
    followed = bench.hops.find(marked({COPY_STAMP: CopyStamp(sent_s, 0).encode()}, "bob"))
    assert followed is not None
    assert (bench.totals("copy_read"), bench.metrics.hop_clock_errors) == ((0, 0), 1)


@pytest.mark.parametrize("headers", [{}, {COPY_STAMP: "x"}, {COPY_STAMP: 7}, {"x-kind": COPY_STAMP}])
def test_without_a_mark_that_can_be_read_nothing_is_timed(headers: dict[str, Any]) -> None:
    bench = Bench()
    assert bench.hops.find(marked(headers, "bob")) is None
    assert (bench.totals("copy_read"), bench.metrics.hop_clock_errors) == ((0, 0), 0)
