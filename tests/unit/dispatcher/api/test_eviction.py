from dataclasses import dataclass

from pushcluster_dispatcher.api.eviction import EvictionQueue


@dataclass(eq=False)
class Connection:
    is_idle: bool = False


def test_the_oldest_that_has_shown_no_key_gives_way() -> None:
    places: EvictionQueue[Connection] = EvictionQueue()
    trusted, first, second = Connection(is_idle=True), Connection(), Connection()
    for each in (trusted, first, second):
        places.arrive(each)
    places.trust(trusted)
    assert places.find_one_to_give_way(strangers=0) is first
    places.leave(first)
    assert places.find_one_to_give_way(strangers=0) is second


def test_one_with_a_key_gives_way_when_no_other_can_and_it_is_idle_the_longest_idle_first() -> None:
    places: EvictionQueue[Connection] = EvictionQueue()
    first, second, third = (Connection(is_idle=True) for _ in range(3))
    for each in (first, second, third):
        places.arrive(each)
        places.trust(each)
    assert places.find_one_to_give_way(strangers=0) is first
    places.trust(first)
    assert places.find_one_to_give_way(strangers=0) is second
    second.is_idle = False
    assert places.find_one_to_give_way(strangers=0) is third
    first.is_idle = third.is_idle = False
    assert places.find_one_to_give_way(strangers=0) is None


def test_some_places_are_for_those_who_have_not_shown_a_key_yet() -> None:
    places: EvictionQueue[Connection] = EvictionQueue()
    trusted, first, second = Connection(is_idle=True), Connection(), Connection()
    for each in (trusted, first, second):
        places.arrive(each)
    places.trust(trusted)
    assert places.find_one_to_give_way(strangers=1) is first
    assert places.find_one_to_give_way(strangers=2) is trusted
    trusted.is_idle = False
    assert places.find_one_to_give_way(strangers=2) is first


def test_who_has_left_has_no_place_and_gets_none_by_showing_a_key() -> None:
    places: EvictionQueue[Connection] = EvictionQueue()
    gone = Connection(is_idle=True)
    places.arrive(gone)
    places.leave(gone)
    places.leave(gone)
    places.trust(gone)
    assert len(places) == 0
    assert places.find_one_to_give_way(strangers=0) is None


def test_who_has_shown_a_key_and_left_has_no_place() -> None:
    places: EvictionQueue[Connection] = EvictionQueue()
    gone, stranger = Connection(is_idle=True), Connection()
    for each in (gone, stranger):
        places.arrive(each)
    places.trust(gone)
    assert len(places) == 2
    places.leave(gone)
    assert len(places) == 1
    assert places.find_one_to_give_way(strangers=1) is stranger
