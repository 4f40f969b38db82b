"""Faults of time: programs and Redis that stand still, bytes that arrive late, and clocks that step."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

from pushcluster_contract.limits import LEASE_MS
from pushcluster_contract.topology import consumer_priority
from tests.simulation.clients import Device
from tests.simulation.faults import Faults
from tests.simulation.loop import Owner
from tests.simulation.programs import Dispatcher, Gateway, Process

TIME_FAULTS: Final = (
    *("stand_still_dispatcher", "stand_still_dispatcher", "stand_still_gateway"),
    *("stand_still_redis", "break_redis", "break_redis"),
    *("step_gateway_clock", "step_redis_clock"),
)

HEARTBEAT_S: Final = 1.0
"""A connection that has said nothing for this long is dropped by the broker."""
STANDSTILLS_S: Final = ((0.2, 0.9), (1.2, 3.0), (4.2, 5.5), (8.2, 9.0))
"""Shorter than the heart-beat; longer than it; than the shorter idempotency window; than the lease."""
REDIS_STANDSTILLS_S: Final = ((0.2, 2.5), (3.2, 4.5), (4.5, 7.0))
"""Shorter than Redis may be silent; longer; so that a connection that was tried meanwhile is given up too."""
LATE_S: Final = (0.0, 0.05, 1.0, 3.0)
"""At most so much later, bytes of a connection that has broken arrive."""
BUSY_S: Final = 0.01
"""A dispatcher has to do with a message for so long at least."""
CLOCK_STEP_S: Final = 120
ARMED_S: Final = 2.0
"""For how long a connection breaks with the next thing that is sent over it."""
TAKE_OVER_SHARE: Final = 0.06
"""Of all schedules with two dispatchers, those in which one stands still with its first append under way."""
AWAY_S: Final = (0.2, 1.0)
"""Before that, it is away for so long that another one has its partition."""
TAKEN_OVER_S: Final = 0.5
"""After its start, it has the partition."""


class TimeFaults(Faults):
    """The faults of a `World`, by the names in TIME_FAULTS."""

    time_faults: ClassVar[Sequence[str]] = TIME_FAULTS
    time_faults_share: ClassVar[float] = 0.3
    """Of all schedules, those with some of them."""
    unidentified_share: ClassVar[float] = 0.3
    """Of all publishers, those who give no message ids."""

    redis_is_emptied: bool = False
    """Somebody empties Redis in this schedule."""
    redis_clock_is_steady: bool = True
    """Nobody sets it in this schedule."""

    def plan_time_faults(self, drawn: random.Random, from_s: float, until_s: float) -> None:
        """Draw the faults of this schedule apart, so that one without any stays the schedule that it was."""
        if drawn.random() >= self.time_faults_share:
            return
        for _ in range(drawn.choice((1, 1, 2, 3))):
            fault = drawn.choice(self.time_faults)
            self.redis_clock_is_steady = self.redis_clock_is_steady and fault != "step_redis_clock"
            self.loop.call_later(from_s + drawn.random() * (until_s - from_s), getattr(self, f"_{fault}"))

    def plan_take_over(self, drawn: random.Random, from_s: float, until_s: float) -> None:
        """Draw apart, as above, whether the dispatcher with the higher priority takes over and stands still at once.

        The other one waits, with its channel and its token, and is fed again. Then the first append arrives.
        """
        if drawn.random() >= TAKE_OVER_SHARE or len(self._mortal_dispatchers) < 2 or not self._late_appends_are_found:
            return
        dispatcher = max(self.dispatchers, key=lambda each: consumer_priority(each.name, 0))
        away_at = from_s + drawn.random() * (until_s - from_s)
        comes_at = away_at + drawn.uniform(*AWAY_S)
        for_s = drawn.uniform(*STANDSTILLS_S[1])
        self._await(comes_at + ARMED_S + for_s + HEARTBEAT_S)
        self.loop.call_at(away_at, dispatcher.kill)
        self.loop.call_at(comes_at, self._take_over, dispatcher, for_s)
        # Some for the other one, some for the first append, and some for whoever is fed meanwhile.
        for begin_s, end_s in pairwise((away_at, comes_at, comes_at + TAKEN_OVER_S, comes_at + for_s)):
            for _ in range(drawn.randint(1, 4)):
                self.loop.call_at(drawn.uniform(begin_s, end_s), drawn.choice(self.producers).publish)

    def _take_over(self, dispatcher: Dispatcher, for_s: float) -> None:
        """Start it, and let it do nothing from its first append on, which has not left it yet."""
        dispatcher.start(self.mode)
        self.redis.when_appending(dispatcher.owner, lambda: self._stand_still_for(dispatcher, for_s, sent=False))

    @property
    def _late_appends_are_found(self) -> bool:
        """Whether somebody finds what a dispatcher that has lost its channel still appends, without sending copies.

        Its successor makes the same appends, or Redis refuses them. Only where Redis has been emptied of its fence, and
        of what the successor appended, the walk alone finds them.
        """
        return self.walks or not self.redis_is_emptied

    def _stand_still_dispatcher(self) -> None:
        """Let one do nothing for a while, from when there is something to do."""
        if not self._late_appends_are_found:
            return
        self.broker.ingress.when_busy(
            lambda: self.loop.call_later(self.random() * BUSY_S, self._stand_still, self._rng.choice(self.dispatchers))
        )

    def _stand_still_gateway(self) -> None:
        gateway = self._rng.choice(self.gateways)
        if self._stand_still(gateway) > HEARTBEAT_S:
            for device in self.devices:
                if device.gateway is gateway and self.random() < 0.5:
                    self.loop.call_later(HEARTBEAT_S, self._leave, device, gateway)

    def _leave(self, device: Device, gateway: Gateway) -> None:
        """Its client misses heart-beats."""
        if device.gateway is gateway and gateway.stands_still:
            device.disconnect(noticed_after_s=0.0)

    def _stand_still(self, process: Process) -> float:
        """Let a program do nothing for a while; return for how long, s."""
        if not process.alive or process.stands_still:
            return 0.0
        for_s = self._draw_between(*self._rng.choice(STANDSTILLS_S))
        self._stand_still_for(process, for_s, sent=self.random() >= 0.5)
        return for_s

    def _stand_still_for(self, process: Process, for_s: float, *, sent: bool) -> None:
        """Let it do nothing. `sent`: its kernel has all that it wanted to send."""
        goes_on_at = self.loop.time() + for_s
        self.trace("{} stands still for {:.2f} s", process.name, for_s)
        self._await(goes_on_at + HEARTBEAT_S)
        self.loop.pause(process.owner)
        if not sent:
            self.redis.delay_unsent(process.owner, goes_on_at)
        if for_s > HEARTBEAT_S:
            heard_at = goes_on_at + self._rng.choice((0.0, self.random() * HEARTBEAT_S))
            self.loop.call_later(HEARTBEAT_S, self._miss_heartbeats, process.owner, heard_at)
        if isinstance(process, Gateway) and for_s * 1_000 > LEASE_MS:
            self.loop.call_later(LEASE_MS / 1_000, self._remove, process.incarnations[-1])
        self.loop.call_at(goes_on_at, self._go_on, process.owner)

    def _go_on(self, owner: Owner) -> None:
        if owner.backlog is not None:
            self.trace("{} goes on", owner.name)
            self.loop.resume(owner)

    def _miss_heartbeats(self, owner: Owner, heard_at: float) -> None:
        if owner.backlog is not None:
            for connection in [each for each in self.broker.connections if each.owner is owner]:
                self.broker.drop(connection, heard_at=heard_at)

    def _stand_still_redis(self) -> None:
        for_s = self._draw_between(*self._rng.choice(REDIS_STANDSTILLS_S))
        self._await(self.loop.time() + for_s + HEARTBEAT_S)
        self.redis.pause(for_s)

    def _break_redis(self) -> None:
        """Break a program's connections to Redis with something under way, of which a part may arrive later."""
        if not self._late_appends_are_found:
            return
        process = self._rng.choice((*self.dispatchers, *self.dispatchers, *self.gateways))
        late_s = self.random() * self._rng.choice(LATE_S)
        share = self._rng.choice((0.0, self.random(), 1.0, 1.0))
        self._await(self.loop.time() + ARMED_S + late_s + HEARTBEAT_S)
        self.redis.break_next(process.owner, late_s, share, until_s=self.loop.time() + ARMED_S)

    def _step_gateway_clock(self) -> None:
        gateway = self._rng.choice(self.gateways)
        gateway.clock_ahead_s += self._rng.choice((CLOCK_STEP_S, -CLOCK_STEP_S))
        self.trace("the clock of {} steps to {:+g} s", gateway.name, gateway.clock_ahead_s)

    def _step_redis_clock(self) -> None:
        self.redis.step_clock(self._rng.choice((CLOCK_STEP_S, -CLOCK_STEP_S)) * 1_000)

    def _draw_between(self, least: float, most: float) -> float:
        return least + self.random() * (most - least)

    def _await(self, at: float) -> None:
        self.still_until_s = max(self.still_until_s, at)
