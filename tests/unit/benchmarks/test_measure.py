import pytest

from benchmarks.measure import Latencies, ProcessTimes, median, percentile, rate


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.1, 100), (100, 100)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: float, expected: float) -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, percent) == expected


def test_the_middle_of_an_even_number_of_values_is_the_lower_one() -> None:
    assert median([4, 1, 3, 2]) == 2
    assert median([7]) == 7


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 50)


def test_latencies_are_told_in_ms() -> None:
    found = Latencies.of([0.001] * 98 + [0.002, 0.1])
    assert found == Latencies(100, 1.0, 2.0, 100.0)


def test_processor_time_is_the_difference_of_two_samples() -> None:
    before = ProcessTimes({"gateway-0": 1.0, "gateway-1": 2.0, "redis": 5.0})
    used = ProcessTimes({"gateway-0": 1.5, "gateway-1": 3.0, "redis": 5.25}).since(before)
    assert used.total() == pytest.approx(1.75)
    assert used.total(["redis", "gateway-0"]) == pytest.approx(0.75)
    assert used.matching("gateway") == pytest.approx(1.5)


def test_no_time_is_no_rate() -> None:
    assert rate(10, 2) == 5
    assert rate(10, 0) == 0
