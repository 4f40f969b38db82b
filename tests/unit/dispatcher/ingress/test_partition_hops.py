"""The hops of a followed message through a partition, on a clock that the test moves."""

import pytest

from pushcluster_dispatcher.log.entries import AppendRefused
from pushcluster_runtime.hops import Hop
from tests.support.clock import ManualClock
from tests.support.waiting import settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running


def totals(bench: Bench, hop: Hop) -> tuple[float | None, float | None]:
    """Return how many messages a hop was timed for, and the sum of the seconds."""
    value, name = bench.metrics.registry.get_sample_value, "pushcluster_dispatcher_hop_seconds"
    return value(f"{name}_count", {"hop": hop.value}), value(f"{name}_sum", {"hop": hop.value})


def stop_clock(bench: Bench) -> ManualClock:
    clock = bench.metrics.hops.clock = ManualClock()
    return clock


async def test_each_hop_gets_its_own_time() -> None:
    async with running() as bench:
        clock = stop_clock(bench)
        bench.logs.may_open.clear()
        bench.log.may_answer.clear()
        bench.deliver(b"1")
        await settle()
        assert bench.log.batches == []
        clock.now += 1
        bench.logs.may_open.set()
        await settle()
        assert (totals(bench, Hop.APPEND_SENT), totals(bench, Hop.APPENDED)) == ((1, 1), (0, 0))
        clock.now += 2
        bench.log.may_answer.set()
        await settle()
        assert (totals(bench, Hop.APPEND_SENT), totals(bench, Hop.APPENDED)) == ((1, 1), (1, 2))
        clock.now += 4
        (followed,) = bench.log.batches[0]
        assert followed.trace is not None
        followed.trace.reached(Hop.COPY_SENT)
        assert totals(bench, Hop.COPY_SENT) == (1, 4)


async def test_what_redis_takes_first_does_not_wait_for_the_rest_of_its_batch() -> None:
    async with running() as bench:
        clock = stop_clock(bench)
        bench.log.may_answer.clear()
        bench.log.part = 1
        bench.deliver(b"1", b"2")
        await settle()
        assert totals(bench, Hop.APPENDED) == (1, 0)
        clock.now += 3
        bench.log.may_answer.set()
        await settle()
        assert totals(bench, Hop.APPENDED) == (2, 3)


async def test_a_message_that_is_appended_again_counts_from_its_first_attempt_on() -> None:
    async with running() as bench:
        clock = stop_clock(bench)
        bench.log.may_answer.clear()
        bench.deliver(b"1")
        await settle()
        bench.lose_redis()
        clock.now += 5
        await settle()
        assert len(bench.log.batches) == 2
        bench.log.may_answer.set()
        await settle()
        assert (totals(bench, Hop.APPEND_SENT), totals(bench, Hop.APPENDED)) == ((1, 0), (1, 5))


async def test_a_malformed_message_moves_no_trace_to_another_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as bench:
        monkeypatch.setattr(bench.session._sampler, "takes", lambda _: bench.delivered == 2)
        bench.deliver(b"1", headers={})
        bench.deliver(b"2")
        bench.deliver(b"3")
        await settle()
        traces = {message.body: message.trace for batch in bench.log.batches for message in batch}
        assert [body for body, trace in traces.items() if trace is not None] == [b"2"]
        assert totals(bench, Hop.APPENDED)[0] == 1


async def test_a_message_that_the_log_refuses_has_no_copy_to_time() -> None:
    async with running() as bench:
        bench.log.answers = {b"1": AppendRefused("Redis: ERR")}
        bench.deliver(b"1")
        await settle()
        assert totals(bench, Hop.COPY_SENT) == (0, 0)


async def test_of_many_messages_only_some_are_followed() -> None:
    async with running() as bench:
        bench.deliver(*(b"%d" % n for n in range(400)))
        await settle()
        messages = [message for batch in bench.log.batches for message in batch]
        assert len(messages) == 400
        assert 0 < sum(message.trace is not None for message in messages) < 80
