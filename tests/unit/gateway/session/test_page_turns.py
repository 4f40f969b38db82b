"""Whose turn it is to read a page of the log, and how large it may be."""

import pytest

from pushcluster_contract.ids import ZERO_ID
from pushcluster_gateway.session.delivery import ReadPage
from pushcluster_gateway.session.page_turns import PageTurns

PAGE = 1_000


def page(ticket: int = 1, *, is_first: bool = False) -> ReadPage:
    return ReadPage(ZERO_ID, 10, PAGE, ticket, is_first)


def waiting(names: str, max_reads: int = 4) -> PageTurns[str]:
    turns = PageTurns[str](max_reads)
    for name in names:
        turns.wait(name, page())
    return turns


def sizes(turns: PageTurns[str], free_bytes: int, readers: int) -> dict[str, int]:
    return {name: asked.max_bytes for name, asked in turns.take(free_bytes, readers)}


def test_one_subscription_more_waits_for_the_end_of_a_page() -> None:
    turns = waiting("abcde")
    taken = turns.take(10_000, 5)
    assert [name for name, _ in taken] == ["a", "b", "c", "d"]
    assert turns.take(10_000, 5) == []
    assert not turns.waits_for_space, "the end of a page wakes it"
    turns.end(taken[2][1])
    assert [name for name, _ in turns.take(10_000, 5)] == ["e"]


@pytest.mark.parametrize(
    ("names", "free_bytes", "readers", "expected"),
    [
        ("a", 300, 1, {"a": 300}),
        ("a", 5_000, 1, {"a": PAGE}),
        ("a", 300, 2, {"a": 150}),
        ("a", 400, 32, {"a": 100}),
        ("ab", 301, 2, {"a": 150, "b": 151}),
        ("abcd", 400, 32, {"a": 100, "b": 100, "c": 100, "d": 100}),
        ("abcd", 10_000, 32, {"a": PAGE, "b": PAGE, "c": PAGE, "d": PAGE}),
        ("abcd", 2, 32, {"a": 1, "b": 1}),
        ("a", 1, 0, {"a": 1}),
    ],
)
def test_pages_share_the_room(names: str, free_bytes: int, readers: int, expected: dict[str, int]) -> None:
    assert sizes(waiting(names), free_bytes, readers) == expected


def test_room_that_is_reserved_comes_back_with_its_page() -> None:
    turns = waiting("a")
    ((_, first),) = turns.take(300, 1)
    turns.wait("b", page())
    assert turns.take(300, 2) == []
    assert turns.waits_for_space
    turns.end(first)
    assert sizes(turns, 300, 2) == {"b": 150}
    assert not turns.waits_for_space


def test_without_room_only_first_pages_are_read_whoever_waits_before_them() -> None:
    turns = waiting("ab")
    turns.wait("c", page(is_first=True))
    assert sizes(turns, 0, 3) == {"c": 1}
    assert sizes(turns, 600, 3) == {"a": 299, "b": 300}


def test_who_waits_already_keeps_its_place_for_its_newer_request() -> None:
    turns = waiting("abc", max_reads=1)
    turns.wait("a", page(ticket=2))
    ((name, asked),) = turns.take(500, 3)
    assert (name, asked.ticket) == ("a", 2)


def test_who_has_left_gets_no_turn() -> None:
    turns = waiting("ab")
    turns.leave("a")
    turns.leave("unknown")
    ((name, asked),) = turns.take(500, 1)
    assert name == "b"
    turns.leave("b")
    assert not turns.at_rest, "its page is under way"
    turns.end(asked)
    assert turns.at_rest
