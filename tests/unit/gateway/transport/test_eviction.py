"""Sockets by how far they have come, and which of them gives way."""

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.transport.eviction import EvictionQueue, Stage


class Item:
    def __init__(self) -> None:
        self.stage = Stage.NONE


def arrived(queue: EvictionQueue[Item], count: int) -> list[Item]:
    items = [Item() for _ in range(count)]
    for item in items:
        queue.add(item)
    return items


def test_the_oldest_handshake_is_evicted_first() -> None:
    queue: EvictionQueue[Item] = EvictionQueue()
    assert queue.oldest_handshake() is None
    first, second, third = arrived(queue, 3)
    assert queue.oldest_handshake() is first
    queue.remove(first)
    queue.open(second, 1.0)
    assert queue.oldest_handshake() is third


def test_the_oldest_unauthenticated_socket_is_evicted_but_not_before_its_time() -> None:
    queue: EvictionQueue[Item] = EvictionQueue()
    first, second = arrived(queue, 2)
    queue.open(second, 5.0)
    queue.open(first, 6.0)
    assert queue.oldest_unauthenticated(opened_by=4.9) is None
    assert queue.oldest_unauthenticated(opened_by=5.0) is second
    queue.mark_authenticated(second)
    assert queue.oldest_unauthenticated(opened_by=5.9) is None
    assert queue.oldest_unauthenticated(opened_by=6.0) is first


def test_an_authenticated_client_counts_and_is_never_evicted() -> None:
    queue: EvictionQueue[Item] = EvictionQueue()
    (item,) = arrived(queue, 1)
    assert queue.connections == 0
    queue.open(item, 0.0)
    queue.mark_authenticated(item)
    queue.mark_authenticated(item)
    assert queue.connections == 1
    assert queue.oldest_handshake() is queue.oldest_unauthenticated(opened_by=100.0) is None
    queue.remove(item)
    queue.remove(item)
    assert queue.connections == 0


def test_an_evicted_socket_cannot_be_authenticated_any_more() -> None:
    queue: EvictionQueue[Item] = EvictionQueue()
    (item,) = arrived(queue, 1)
    queue.open(item, 0.0)
    queue.remove(item)
    queue.mark_authenticated(item)
    assert (queue.connections, item.stage) == (0, Stage.NONE)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["arrive", "open", "prove", "leave"])), max_size=60))
def test_the_number_of_connections_follows_the_stages(steps: list[tuple[int, str]]) -> None:
    queue: EvictionQueue[Item] = EvictionQueue()
    items = [Item() for _ in range(6)]
    for now, (number, step) in enumerate(steps):
        item = items[number]
        if step == "arrive" and item.stage is Stage.NONE:
            queue.add(item)
        elif step == "open" and item.stage is Stage.HANDSHAKE:
            queue.open(item, float(now))
        elif step == "prove":
            queue.mark_authenticated(item)
        elif step == "leave":
            queue.remove(item)
        stages = [each.stage for each in items]
        assert queue.connections == stages.count(Stage.UNAUTHENTICATED) + stages.count(Stage.AUTHENTICATED)
        assert (queue.oldest_handshake() is None) == (Stage.HANDSHAKE not in stages)
        assert (queue.oldest_unauthenticated(opened_by=now) is None) == (Stage.UNAUTHENTICATED not in stages)
