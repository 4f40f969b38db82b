"""What is due comes in time, and nothing comes twice."""

from hypothesis import given
from hypothesis import strategies as st

from pushcluster_gateway.transport.timer_wheel import NOT_SCHEDULED, TimerWheel


class Item:
    def __init__(self) -> None:
        self.wheel_slot = NOT_SCHEDULED


class TestWheel:
    def test_an_item_comes_back_when_it_is_due_and_not_before(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=100)
        item = Item()
        wheel.schedule(item, 101.1)
        assert wheel.advance(101.0) == []
        assert wheel.advance(101.25) == [item]
        assert item.wheel_slot == NOT_SCHEDULED
        assert wheel.advance(200) == []

    def test_a_new_plan_replaces_the_old_one_and_a_cancelled_item_never_comes(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        sooner, cancelled = Item(), Item()
        wheel.schedule(sooner, 3)
        wheel.schedule(sooner, 1)
        wheel.schedule(cancelled, 1)
        wheel.cancel(cancelled)
        wheel.cancel(cancelled)
        assert wheel.advance(1) == [sooner]
        assert wheel.advance(3.5) == []

    def test_what_is_due_already_comes_with_the_next_tick(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=10)
        item = Item()
        wheel.schedule(item, 1)
        assert wheel.advance(10.25) == [item]

    def test_what_is_due_in_the_last_tick_of_a_turn_does_not_come_before_it(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        item = Item()
        wheel.schedule(item, 15 * 0.25)
        assert [wheel.advance(tick * 0.25) for tick in range(1, 15)] == [[]] * 14
        assert wheel.advance(15 * 0.25) == [item]

    def test_a_wheel_that_has_turned_often_returns_nothing_early(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        for now in (100, 99):
            assert wheel.advance(now) == []
        item = Item()
        wheel.schedule(item, 102)
        assert wheel.advance(101) == []
        assert wheel.advance(102) == [item]

    def test_after_a_long_sleep_everything_that_was_due_comes_at_once(self) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=16, now=0)
        items = [Item() for _ in range(12)]
        for n, item in enumerate(items):
            wheel.schedule(item, n * 0.25)
        assert set(wheel.advance(1_000)) == set(items)

    @given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.01, 3)), min_size=1, max_size=30))
    def test_never_early_within_a_turn_and_never_later_than_a_tick(self, plans: list[tuple[float, float]]) -> None:
        wheel: TimerWheel[Item] = TimerWheel(tick_s=0.25, slots=512, now=0)
        due = {}
        for at, _ in plans:
            item = Item()
            due[item] = at
            wheel.schedule(item, at)
        now = 0.0
        for _, step in plans * 10:
            before, now = now, now + step
            for item in wheel.advance(now):
                assert due.pop(item) <= now
            assert all(at > before - 0.25 for at in due.values())
