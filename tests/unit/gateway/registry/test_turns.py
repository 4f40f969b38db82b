"""A queue that serves users in turn."""

import pytest

from pushcluster_gateway.registry.turns import TurnQueue


def queue(*items: str) -> TurnQueue[str]:
    """Return one with these items; the first letter is the user."""
    turns = TurnQueue[str]()
    for item in items:
        turns.append(item, item[0])
    return turns


def drained(turns: TurnQueue[str]) -> str:
    items = []
    while turns:
        items.append(turns.popleft())
    return " ".join(items)


def test_users_are_served_in_turn_and_the_items_of_one_in_order() -> None:
    turns = queue("a1", "a2", "a3", "b1", "c1", "b2")
    assert list(turns) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert drained(turns) == "a1 b1 c1 a2 b2 a3"


def test_items_without_a_user_are_served_as_they_come() -> None:
    turns = TurnQueue[str]()
    for n in range(3):
        turns.append(str(n))
    assert turns.popleft() == "0"
    turns.append("3")
    assert drained(turns) == "1 2 3"


def test_who_comes_while_a_round_is_served_waits_for_the_next_one_only() -> None:
    turns = queue("a1", "a2", "a3", "b1")
    assert turns.popleft() == "a1"
    turns.append("c1", "c")
    assert drained(turns) == "b1 a2 c1 a3"


def test_who_comes_again_and_again_keeps_nobody_from_its_second_turn() -> None:
    turns = queue("a1", "a2", "b1", "c1")
    served = []
    for _ in range(6):
        served.append(turns.popleft())
        if served[-1][0] in "bc":
            turns.append(served[-1], served[-1][0])
    assert served == ["a1", "b1", "c1", "a2", "b1", "c1"]


def test_it_remembers_no_user_of_whom_nothing_waits() -> None:
    turns = queue("a1", "a2", "b1")
    for _ in range(3):
        turns.popleft()
    assert not turns._next_round
    with pytest.raises(IndexError):
        turns.popleft()
    turns.append("a3", "a")
    turns.clear()
    assert not turns
    assert not turns._next_round
    turns.append("b2", "b")
    assert drained(turns) == "b2"
