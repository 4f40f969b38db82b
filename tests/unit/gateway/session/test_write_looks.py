"""When to look at sockets whose clients have not acknowledged a message yet."""

import pytest

from pushcluster_gateway.session import write_looks
from pushcluster_gateway.session.write_looks import WriteLooks, next_delay_s


@pytest.mark.parametrize(
    ("delay_s", "moved", "expected"),
    [
        (0.0, True, 0.05),
        (0.0, False, 0.05),
        (0.05, False, 0.1),
        (0.4, False, 0.8),
        (0.8, False, 1.0),
        (1.0, False, 1.0),
        (1.0, True, 0.05),
    ],
)
def test_the_time_until_the_next_look_doubles_while_nothing_moves(delay_s: float, moved: bool, expected: float) -> None:
    assert next_delay_s(delay_s, moved=moved) == expected


def test_a_dark_client_is_looked_at_once_a_second_and_as_often_as_before_when_it_comes_back() -> None:
    looks, times, accepted = WriteLooks[str](), list[float](), 0
    looks.add("dark", 0.0)
    for tick in range(120):
        now = tick * 0.05
        accepted = 10 if now >= 5 else 0
        for client in looks.take_due(now + 1e-9):
            times.append(now)
            looks.looked(client, accepted, now)
    assert times == pytest.approx([0, 0.05, 0.15, 0.35, 0.75, 1.55, 2.55, 3.55, 4.55, 5.55, 5.6, 5.7, 5.9])


def test_a_client_that_is_looked_at_already_is_not_added_again() -> None:
    looks = WriteLooks[str]()
    for now in (0.0, 0.1):
        looks.add("a", now)
    assert looks.take_due(0.2) == ["a"]
    assert looks.take_due(0.2) == []
    looks.looked("a", 0, 0.2)
    looks.add("a", 0.2)
    assert looks.take_due(0.2) == []
    assert looks.take_due(0.3) == ["a"]
    looks.remove("a")
    assert not len(looks)
    looks.add("a", 0.4)
    assert looks.take_due(0.4) == ["a"]


def test_one_client_more_than_is_looked_at_at_once_comes_first_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_looks, "MAX_LOOKS", 2)
    looks = WriteLooks[str]()
    for client in "abc":
        looks.add(client, 0.0)
    assert looks.take_due(0.0) == ["a", "b"]
    looks.looked("a", 0, 0.0)
    looks.looked("b", 0, 0.0)
    assert looks.take_due(0.05) == ["c", "a"]
