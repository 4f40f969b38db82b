from dataclasses import dataclass

from pushcluster_dispatcher.api.eviction import EvictionQueue


@dataclass(eq=False)
class Connection:
    is_idle: bool = False


def test_the_oldest_that_has_shown_no_key_gives_way() -> None:
    queue: EvictionQueue[Connection] = EvictionQueue()
    trusted, first, second = Connection(is_idle=True), Connection(), Connection()
    for each in (trusted, first, second):
        queue.arrive(each)
    queue.trust(trusted)
    assert queue.find_one_to_give_way(strangers=0) is first
    queue.leave(first)
    assert queue.find_one_to_give_way(strangers=0) is second


def test_if_no_other_can_give_way_an_idle_one_with_a_key_does_the_longest_idle_first() -> None:
    queue: EvictionQueue[Connection] = EvictionQueue()
    first, second, third = (Connection(is_idle=True) for _ in range(3))
    for each in (first, second, third):
        queue.arrive(each)
        queue.trust(each)
    assert queue.find_one_to_give_way(strangers=0) is first
    queue.trust(first)
    assert queue.find_one_to_give_way(strangers=0) is second
    second.is_idle = False
    assert queue.find_one_to_give_way(strangers=0) is third
    first.is_idle = third.is_idle = False
    assert queue.find_one_to_give_way(strangers=0) is None


def test_some_connections_without_a_key_stay_even_if_others_with_a_key_are_idle() -> None:
    queue: EvictionQueue[Connection] = EvictionQueue()
    trusted, first, second = Connection(is_idle=True), Connection(), Connection()
    for each in (trusted, first, second):
        queue.arrive(each)
    queue.trust(trusted)
    assert queue.find_one_to_give_way(strangers=1) is first
    assert queue.find_one_to_give_way(strangers=2) is trusted
    trusted.is_idle = False
    assert queue.find_one_to_give_way(strangers=2) is first


def test_a_connection_that_has_left_does_not_return_by_showing_a_key() -> None:
    queue: EvictionQueue[Connection] = EvictionQueue()
    gone = Connection(is_idle=True)
    queue.arrive(gone)
    queue.leave(gone)
    queue.leave(gone)
    queue.trust(gone)
    assert len(queue) == 0
    assert queue.find_one_to_give_way(strangers=0) is None


def test_a_connection_that_showed_a_key_and_left_is_not_counted() -> None:
    queue: EvictionQueue[Connection] = EvictionQueue()
    gone, stranger = Connection(is_idle=True), Connection()
    for each in (gone, stranger):
        queue.arrive(each)
    queue.trust(gone)
    assert len(queue) == 2
    queue.leave(gone)
    assert len(queue) == 1
    assert queue.find_one_to_give_way(strangers=1) is stranger
