"""Sockets by how far they have come, and which of them gives way."""

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.transport.eviction import EvictionQueue, Stage


class Item:
    def __init__(self) -> None:
        self.stage = Stage.NONE


def arrived(places: EvictionQueue[Item], count: int) -> list[Item]:
    items = [Item() for _ in range(count)]
    for item in items:
        places.arrive(item)
    return items


def test_the_oldest_handshake_gives_way_first() -> None:
    places: EvictionQueue[Item] = EvictionQueue()
    assert places.oldest_handshake() is None
    first, second, third = arrived(places, 3)
    assert places.oldest_handshake() is first
    places.leave(first)
    places.open(second, 1.0)
    assert places.oldest_handshake() is third


def test_the_oldest_that_is_unproven_gives_way_but_not_before_its_time() -> None:
    places: EvictionQueue[Item] = EvictionQueue()
    first, second = arrived(places, 2)
    places.open(second, 5.0)
    places.open(first, 6.0)
    assert places.oldest_unproven(opened_by=4.9) is None
    assert places.oldest_unproven(opened_by=5.0) is second
    places.prove(second)
    assert places.oldest_unproven(opened_by=5.9) is None
    assert places.oldest_unproven(opened_by=6.0) is first


def test_who_has_proved_itself_counts_and_never_gives_way() -> None:
    places: EvictionQueue[Item] = EvictionQueue()
    (item,) = arrived(places, 1)
    assert places.connections == 0
    places.open(item, 0.0)
    places.prove(item)
    places.prove(item)
    assert places.connections == 1
    assert places.oldest_handshake() is places.oldest_unproven(opened_by=100.0) is None
    places.leave(item)
    places.leave(item)
    assert places.connections == 0


def test_who_was_given_up_proves_nothing_any_more() -> None:
    places: EvictionQueue[Item] = EvictionQueue()
    (item,) = arrived(places, 1)
    places.open(item, 0.0)
    places.leave(item)
    places.prove(item)
    assert (places.connections, item.stage) == (0, Stage.NONE)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["arrive", "open", "prove", "leave"])), max_size=60))
def test_the_count_is_that_of_the_stages(steps: list[tuple[int, str]]) -> None:
    places: EvictionQueue[Item] = EvictionQueue()
    items = [Item() for _ in range(6)]
    for now, (number, step) in enumerate(steps):
        item = items[number]
        if step == "arrive" and item.stage is Stage.NONE:
            places.arrive(item)
        elif step == "open" and item.stage is Stage.HANDSHAKE:
            places.open(item, float(now))
        elif step == "prove":
            places.prove(item)
        elif step == "leave":
            places.leave(item)
        stages = [each.stage for each in items]
        assert places.connections == stages.count(Stage.UNPROVEN) + stages.count(Stage.PROVEN)
        assert (places.oldest_handshake() is None) == (Stage.HANDSHAKE not in stages)
        assert (places.oldest_unproven(opened_by=now) is None) == (Stage.UNPROVEN not in stages)
