"""Arithmetic of measurements: percentiles, rates, processor times. This module measures nothing itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in any order. Raises ValueError if there are no values."""
    if not values:
        raise ValueError("a percentile needs at least one value")
    ordered = sorted(values)
    rank = max(1, math.ceil(percent / 100 * len(ordered)))
    return ordered[rank - 1]


def median(values: Sequence[float]) -> float:
    """Return the middle value; of two middle values, the lower one."""
    return percentile(values, 50)


@dataclass(frozen=True, slots=True)
class Latencies:
    """The usual figures of a set of latencies, in ms."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return a summary of the values. Raises ValueError if there are none."""
        return cls(len(seconds), 1e3 * percentile(seconds, 50), 1e3 * percentile(seconds, 99), 1e3 * max(seconds))


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """Processor seconds (user and system) that each named process has used since it began."""

    seconds: Mapping[str, float]

    def since(self, earlier: "ProcessTimes") -> "ProcessTimes":
        """Return what was used between two samples of the same processes."""
        return ProcessTimes({name: used - earlier.seconds[name] for name, used in self.seconds.items()})

    def total(self, names: Iterable[str] | None = None) -> float:
        """Return the sum over these processes, or over all."""
        return sum(self.seconds.values() if names is None else (self.seconds[name] for name in names))

    def matching(self, prefix: str) -> float:
        """Return the sum over all processes whose names begin with `prefix`."""
        return sum(used for name, used in self.seconds.items() if name.startswith(prefix))


def rate(count: float, seconds: float) -> float:
    """Return `count` per second; 0 if no time passed."""
    return count / seconds if seconds > 0 else 0.0
