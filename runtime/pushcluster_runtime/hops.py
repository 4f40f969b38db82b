"""The hops of a message between publish and client, timed for some messages: where a latency comes from.

A dispatcher chooses the messages (`Sampler`) and follows each of them (`Trace`). It marks their copies, and gateways
time what is marked (`pushcluster_contract.copy_stamp`). `docs/internals/performance.md` says what each hop includes.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, Metric

SAMPLES_PER_S: Final = 50.0
"""How many messages a second are followed at most in the long run. One costs about 12 µs of processor time in all."""
WINDOW_S: Final = 1.0
"""How long messages are counted, to know how many are followed next."""
DOUBLED_AFTER: Final = 10
"""After so many messages of a window, half as many of the others are followed. So a sudden flood stays cheap."""
BUCKETS_MS: Final = (
    *(0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7),
    *(10, 15, 20, 30, 50, 100, 200, 500, 1_000, 2_000, 5_000),
)


class Hop(StrEnum):
    """A part of the way. It has the name of the step that it ends with, and begins with the step before."""

    APPEND_SENT = "append_sent"
    """From the arrival in the dispatcher to the call of Redis."""
    APPENDED = "appended"
    """To Redis' answer."""
    COPY_SENT = "copy_sent"
    """To the first copy's publish."""
    COPY_READ = "copy_read"
    """To the copy's arrival in the gateway. Both ends have clocks of their own."""
    WRITTEN = "written"
    """To the end of the write to the client's socket."""


DISPATCHER_HOPS: Final = (Hop.APPEND_SENT, Hop.APPENDED, Hop.COPY_SENT)
GATEWAY_HOPS: Final = (Hop.COPY_READ, Hop.WRITTEN)


class HopTimes:
    """A histogram of each hop that one program times."""

    def __init__(
        self,
        program: str,
        hops: Iterable[Hop],
        *,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns steady seconds. The clock of uvloop's event loop is too coarse: it counts milliseconds."""
        self.clock = clock
        self._histogram = Histogram(
            f"pushcluster_{program}_hop_seconds",
            "Seconds of each part of the way from publish to client, of some messages",
            ["hop"],
            buckets=[ms / 1_000 for ms in BUCKETS_MS],
            registry=registry,
        )
        self._of = {hop: self._histogram.labels(hop.value) for hop in hops}

    def observe(self, hop: Hop, seconds: float) -> None:
        """Count one message."""
        self._of[hop].observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Return the metric family."""
        return self._histogram.collect()


class Trace:
    """One message that is followed through one process. Each hop counts once, and only in its turn."""

    __slots__ = ("_left", "_since", "_times")

    def __init__(self, times: HopTimes, hops: Sequence[Hop]) -> None:
        """The first hop begins now."""
        self._times = times
        self._left = hops
        self._since = times.clock()

    def reached(self, hop: Hop) -> None:
        """Note that this hop ends, and that the next one begins. Nothing happens if another one is under way."""
        if self._left and self._left[0] is hop:
            now = self._times.clock()
            self._times.observe(hop, now - self._since)
            self._left = self._left[1:]
            self._since = now


class Sampler:
    """Chooses messages to follow: all of few, and at equal distances some of many, at most SAMPLES_PER_S."""

    def __init__(self) -> None:
        self._began = -math.inf
        self._seen = 0
        self._next = 1
        """The number of the next message to follow, counted in this window."""
        self._every = 1
        self._taken = 0

    def takes(self, now: float) -> bool:
        """Count a message, and return whether to follow it. `now` is in steady seconds, and may be coarse."""
        if now >= self._began + WINDOW_S:
            self._begin(now)
        self._seen += 1
        if self._seen < self._next:
            return False
        self._taken += 1
        if self._taken % DOUBLED_AFTER == 0:
            self._every *= 2
        self._next = self._seen + self._every
        return True

    def _begin(self, now: float) -> None:
        """Begin a window, with a distance that fits what came in the last one."""
        per_s = self._seen / (now - self._began)
        self._every = max(1, math.ceil(per_s / SAMPLES_PER_S))
        # Where the last window ended decides, so that not always the same message of a window is followed.
        self._next = (self._next - self._seen) % self._every + 1
        self._began, self._seen, self._taken = now, 0, 0
