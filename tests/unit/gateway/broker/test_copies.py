"""Where copies enter: whom they reach, and what becomes of those that cannot be read."""

import pytest

from pushcluster_contract.batch import Address, encode_batch, encode_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway.broker.copies import CopyReader
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.hub import Hub
from tests.unit.gateway.fakes import DEMO, FakeClient, as_client, as_subscription

TOPIC = Destination("topic", "demo")


class Bench:
    """Alice with two devices, and bob."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.metrics = Metrics()
        self.left_out = 0
        self.reader = CopyReader(self.hub, self.metrics, on_left_out=self._count)
        self.alice, self.phone, self.bob = (
            FakeClient(user, sid) for user, sid in (("alice", "a"), ("alice", "p"), ("bob", "b"))
        )
        for client in (self.alice, self.phone, self.bob):
            self.hub.add(as_client(client))
            self.hub.add_subscription(as_subscription(client.subscribe("0")))

    def _count(self) -> None:
        self.left_out += 1

    def got(self) -> list[list[str]]:
        return [[entry.body.decode() for entry in client.got] for client in (self.alice, self.phone, self.bob)]


def copy(user: str, body: bytes, destination: Destination = DEMO, headers: bytes = b"") -> bytes:
    return encode_copy(Address.of(user, destination), b"5-2", body, headers=headers)


def test_each_copy_of_a_batch_reaches_every_subscription_with_its_address_and_no_other() -> None:
    bench = Bench()
    batch = [
        copy("alice", b"1"),
        copy("bob", b"2"),
        copy("carol", b"3"),
        copy("alice", b"4", TOPIC),
        copy("alice", b"5"),
    ]
    bench.reader.read_gateway_batch(encode_batch(batch))
    assert bench.got() == [["1", "5"], ["1", "5"], ["2"]]
    assert bench.metrics.copies_dropped == 2


def test_a_subscriptions_own_queue_gives_only_to_that_subscription() -> None:
    bench = Bench()
    subscription = as_subscription(bench.alice.subscriptions["0"])
    bench.reader.read_subscription_batch(subscription, encode_batch([copy("alice", b"1"), copy("alice", b"2", TOPIC)]))
    assert bench.got() == [["1"], [], []]
    assert bench.metrics.copies_dropped == 1


def test_a_sessions_queue_gives_also_to_what_the_session_has_without_one_and_not_to_other_sessions() -> None:
    bench = Bench()
    with_queue = bench.alice.subscriptions["0"]
    with_queue.path.opened("its own")
    bench.hub.add_subscription(as_subscription(bench.alice.subscribe("topic", TOPIC)))
    bench.hub.add_subscription(as_subscription(bench.alice.subscribe("again")))
    other = bench.alice.subscribe("with its own")
    other.path.opened("another")
    bench.hub.add_subscription(as_subscription(other))
    batch = encode_batch([copy("alice", b"1"), copy("alice", b"2", TOPIC)])
    bench.reader.read_subscription_batch(as_subscription(with_queue), batch)
    assert bench.got() == [["1", "1", "2"], [], []]


def test_everything_of_a_copy_arrives() -> None:
    bench = Bench()
    data = encode_copy(Address.of("bob", DEMO), b"5-2", b"body", b"text/plain", b"m", b'{"x-a":"1"}', 9)
    bench.reader.read_gateway_batch(encode_batch([data]))
    assert bench.bob.got == [LogEntry(StreamId(5, 2), b"body", "text/plain", "m", {"x-a": "1"}, 9)]


@pytest.mark.parametrize("batch", [b"", b"\x01", b"\x02\x05", encode_batch([copy("bob", b"x")])[:-1]])
def test_a_batch_that_cannot_be_read_is_counted_and_raises_nothing(batch: bytes) -> None:
    bench = Bench()
    bench.reader.read_gateway_batch(batch)
    bench.reader.read_subscription_batch(as_subscription(bench.bob.subscriptions["0"]), batch)
    assert bench.metrics.batches_refused == 2
    assert (bench.got(), bench.left_out) == ([[], [], []], 0)


def test_a_copy_that_cannot_be_read_is_counted_and_the_others_arrive() -> None:
    bench = Bench()
    bench.reader.read_gateway_batch(encode_batch([copy("bob", b"1", headers=b"[]"), copy("bob", b"2")]))
    assert (bench.got()[2], bench.metrics.batches_refused) == (["2"], 1)


def test_an_empty_batch_says_that_copies_were_left_out() -> None:
    bench = Bench()
    bench.reader.read_gateway_batch(encode_batch([]))
    assert bench.left_out == 1
