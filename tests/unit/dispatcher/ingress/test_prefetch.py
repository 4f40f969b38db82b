import pytest

from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES
from pushcluster_dispatcher.ingress.prefetch import (
    MAX_HELD_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    MessageSizes,
    plan_prefetch,
)

LARGE = 65_536
COST = LARGE + MESSAGE_OVERHEAD_BYTES


def take(sizes: MessageSizes, count: int, size: int, first: int = 1) -> list[bool]:
    return [sizes.take(first + n, size) for n in range(count)]


def test_small_messages_have_the_whole_prefetch() -> None:
    sizes = MessageSizes(DISPATCHER_PREFETCH_MESSAGES)
    assert all(take(sizes, DISPATCHER_PREFETCH_MESSAGES, 200))
    assert sizes.wanted_prefetch is None


def test_bytes_are_held_up_to_the_limit_and_none_after_the_first_message_beyond_it() -> None:
    sizes = MessageSizes(DISPATCHER_PREFETCH_MESSAGES)
    fitting = MAX_HELD_BYTES // COST
    assert take(sizes, fitting + 2, LARGE) == [True] * fitting + [False] * 2
    assert sizes.take(fitting + 3, 0) is False, "a later one must not pass those that come again"
    assert sizes.held_bytes == fitting * COST


def test_the_last_byte_that_is_allowed_is_held_and_one_more_is_not() -> None:
    rest = MAX_HELD_BYTES - COST - MESSAGE_OVERHEAD_BYTES
    for size, held in ((rest, True), (rest + 1, False)):
        sizes = MessageSizes(8)
        assert [sizes.take(1, LARGE), sizes.take(2, size)] == [True, held]


def test_what_is_held_is_a_part_of_the_prefetch_in_messages_or_in_bytes_whichever_is_more() -> None:
    sizes = MessageSizes(100)
    assert sizes.held_part == 0
    take(sizes, 25, 0)
    assert sizes.held_part == 0.25
    sizes.take(26, MAX_HELD_BYTES // 2 - 26 * MESSAGE_OVERHEAD_BYTES)
    assert sizes.held_part == 0.5
    sizes.release(25)
    assert 0.48 < sizes.held_part < 0.5
    sizes.release(26)
    assert sizes.held_part == 0


def test_one_message_that_is_larger_than_everything_is_held_alone() -> None:
    sizes = MessageSizes(8)
    assert take(sizes, 2, MAX_HELD_BYTES * 2) == [True, False]


def test_the_next_prefetch_holds_messages_of_that_size() -> None:
    sizes = MessageSizes(DISPATCHER_PREFETCH_MESSAGES)
    take(sizes, DISPATCHER_PREFETCH_MESSAGES, LARGE)
    assert sizes.wanted_prefetch == plan_prefetch(COST)
    following = MessageSizes(sizes.wanted_prefetch)
    assert all(take(following, sizes.wanted_prefetch, LARGE))


def test_what_is_released_makes_room() -> None:
    sizes = MessageSizes(DISPATCHER_PREFETCH_MESSAGES)
    fitting = MAX_HELD_BYTES // COST
    take(sizes, fitting, LARGE)
    sizes.release(fitting)
    assert sizes.held_bytes == 0
    assert all(take(sizes, fitting, LARGE, first=fitting + 1))


def test_a_small_prefetch_grows_again_when_messages_are_small_for_long() -> None:
    sizes = MessageSizes(plan_prefetch(COST))
    tag = 0
    while sizes.wanted_prefetch is None:
        tag += 1
        sizes.take(tag, 200)
        sizes.release(tag)
        assert tag < 10_000
    assert sizes.wanted_prefetch > 2 * plan_prefetch(COST) - 1
    assert tag > 4 * plan_prefetch(COST)


def until_judged(sizes: MessageSizes, *given: int) -> list[bool]:
    """Take messages of these sizes, the last one again and again, and acknowledge each at once."""
    taken: list[bool] = []
    while sizes.wanted_prefetch is None and len(taken) < 1_000:
        taken.append(sizes.take(len(taken), given[min(len(taken), len(given) - 1)]))
        sizes.release(len(taken))
    return taken


def test_after_four_full_prefetches_it_grows_to_what_fits_the_average() -> None:
    sizes = MessageSizes(8)
    assert until_judged(sizes, LARGE, LARGE // 4) == [True] * 32 + [False]
    average = LARGE // 4 + LARGE * 3 // 4 * (63 / 64) ** 32 + MESSAGE_OVERHEAD_BYTES
    assert sizes.wanted_prefetch == plan_prefetch(average) == 33


@pytest.mark.parametrize(("cost", "wanted"), [(MAX_HELD_BYTES * 3 // 64, 16), (MAX_HELD_BYTES * 3 // 64 + 1, None)])
def test_it_grows_only_if_twice_as_many_fit(cost: int, wanted: int | None) -> None:
    sizes = MessageSizes(8)
    until_judged(sizes, cost - MESSAGE_OVERHEAD_BYTES)
    assert sizes.wanted_prefetch == wanted


def test_it_is_halved_when_the_average_has_not_followed_yet() -> None:
    sizes = MessageSizes(20)
    take(sizes, 15, 0)
    assert sizes.take(16, MAX_HELD_BYTES) is False
    assert sizes.wanted_prefetch == 10


def test_two_mebibytes_are_held_and_a_prefetch_fills_three_quarters_of_them() -> None:
    assert MAX_HELD_BYTES == 2_097_152
    assert plan_prefetch(65_536) == 24
    assert plan_prefetch(131_072) == 12


def test_a_prefetch_that_turned_out_too_large_is_at_least_halved() -> None:
    sizes = MessageSizes(400)
    take(sizes, 300, 0)
    take(sizes, 100, LARGE, first=301)
    assert sizes.wanted_prefetch is not None
    assert sizes.wanted_prefetch <= 200


def test_what_is_released_is_counted_up_to_its_tag_and_no_further() -> None:
    sizes = MessageSizes(8)
    take(sizes, 3, 100)
    sizes.release(2)
    assert sizes.held_bytes == 100 + MESSAGE_OVERHEAD_BYTES
    sizes.release(2)
    assert sizes.held_bytes == 100 + MESSAGE_OVERHEAD_BYTES


@pytest.mark.parametrize("average", [0, 1, 200, 10_000, LARGE, 10**9])
def test_a_prefetch_is_never_too_small_to_work_nor_larger_than_the_limit(average: int) -> None:
    prefetch = plan_prefetch(average)
    assert 8 <= prefetch <= DISPATCHER_PREFETCH_MESSAGES
    assert prefetch == 8 or prefetch * average <= MAX_HELD_BYTES
