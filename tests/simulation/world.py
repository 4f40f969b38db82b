"""One schedule: a world that a seed describes, its faults, its healing, and the judgement at the end."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import ZERO_ID, Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher.settings import CONSUMER_TIMEOUT_S, Retention
from tests.simulation import broker_model, redis_server
from tests.simulation.clients import Device, Producer
from tests.simulation.faults import FAULTS
from tests.simulation.lies import draw_lies
from tests.simulation.loop import Owner, SimulatedLoop
from tests.simulation.programs import CLUSTER, LIMITS, Dispatcher, Gateway
from tests.simulation.time_faults import TimeFaults
from tests.support.delivery_judge import check
from tests.support.delivery_log import Channel, Fate, History
from tests.support.delivery_report import Report

TROUBLE_S: Final = 4.0
"""Traffic and faults."""
SHORT_TIMEOUT_S: Final = 6.0
"""A consumer timeout that passes in a schedule. Half of it is longer than a heart-beat, and than two slow barriers."""
STUCK_SHARE: Final = 0.04
"""Of all schedules, those in which it passes."""
STUCK_S: Final = 2.2 * SHORT_TIMEOUT_S
"""For so long Redis takes nothing in these: until it has passed at two dispatchers, one after the other."""
HEAL_WITHIN_S: Final = 30.0
"""From the end of all faults until everybody has everything: back-offs of 5 s, the lease, the walk."""
LOOK_S: Final = 0.25
FLUSHED_S: Final = 2.5
"""After this long every cursor is in Redis."""
EPOCH_MS: Final = 1_700_000_000_000


@dataclass(slots=True)
class Result:
    """What came of a schedule."""

    seed: int
    report: Report
    failures: list[str]
    digest: str
    """Of the trace, when there was one."""

    @property
    def ok(self) -> bool:
        return self.report.ok and not self.failures


class World(TimeFaults):
    """Everything that exists in one schedule."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None:
        rng = self._rng = random.Random(seed)
        self.seed = seed
        self.random = rng.random
        self.failures: list[str] = []
        self.loop = SimulatedLoop()
        self.loop.world = self  # type: ignore[attr-defined]
        self.owner = self.loop.owner
        self.keys = Keys(CLUSTER)
        # A walk that never comes leaves the repair of everything to copies, holes and resyncs.
        self.walks = rng.random() < 0.6
        self._apart = random.Random(
            f"alarm of {seed}"
        )  # drawn apart: a seed without one stays the schedule that it was
        self.alarms = self._apart.random() < 0.15
        # Few queues for two gateways, so that subscriptions of one session, too, part into those with one and without.
        self.subscription_queues = random.Random(f"room of {seed}").choice((1_000, 1_000, 6, 4, 2, 0))
        # As during an upgrade. Their copies go to sessions' queues also where the entry says that there is none.
        self.old_dispatchers = random.Random(f"dispatchers of {seed}").random() < 0.3
        self.limits = LIMITS if self.walks else replace(LIMITS, walk_round_s=1e6)
        self._say = say
        self._numbers = 0
        self._slow_net = rng.random() < 0.3
        self._cuts: dict[tuple[str, str], float] = {}
        self._full_until = 0.0
        self._takes_nothing_until = 0.0
        self._held = random.Random(f"held messages of {seed}")
        self.is_stuck = self._held.random() < STUCK_SHARE
        self.consumer_timeout_s = SHORT_TIMEOUT_S if self.is_stuck else CONSUMER_TIMEOUT_S
        self.acknowledging = random.Random(f"acknowledged bytes of {seed}")
        """What TCP acknowledges before a network breaks is drawn from it."""
        self._histories: dict[Channel, History] = {}
        self._removing: set[Incarnation] = set()
        self.retention = rng.choice(
            (
                Retention(600_000, 1_000, resume_window_ms=120_000, idempotency_window_ms=600_000),
                Retention(600_000, 1_000, resume_window_ms=120_000, idempotency_window_ms=600_000),
                Retention(600_000, rng.choice((3, 6, 12)), resume_window_ms=120_000, idempotency_window_ms=600_000),
                Retention(4_000, 1_000, resume_window_ms=1_000, idempotency_window_ms=4_000),
            )
        )
        self.mode = rng.choice(list(RoutingMode))
        self.redis = redis_server.Server(self, always=rng.random() < 0.7)
        self.broker = broker_model.Server(self, self._copy_faults())
        self.gateways = [Gateway(self, f"gateway{n}") for n in range(2)]
        self.dispatchers = [Dispatcher(self, f"dispatcher{n}") for n in range(rng.choice((1, 2)))]
        self.devices: list[Device] = []
        self.producers: list[Producer] = []
        self._populate()

    # What the models call

    @property
    def now_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1_000)

    def latency(self) -> float:
        draw = self.random()
        if self._slow_net and draw < 0.05:
            return draw * 10
        return 0.0005 + draw * 0.004

    def entropy(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def trace(self, text: str, *values: Any) -> None:
        if self._say is not None:
            self._say(f"{self.loop.time():8.4f} {text.format(*values)}")

    def cut_until(self, owner: Owner, service: str) -> float:
        return self._cuts.get((owner.name, service), 0.0)

    def redis_is_full(self) -> bool:
        if self.loop.time() < self._takes_nothing_until:
            return True
        return self.loop.time() < self._full_until and self.random() < 0.7

    def choose_gateway(self) -> Gateway | None:
        ready = [gateway for gateway in self.gateways if gateway.ready]
        return self._rng.choice(ready) if ready else None

    def history(self, user: str, destination: str) -> History:
        return self._histories.setdefault((user, destination), History())

    # The schedule

    def run(self) -> None:
        """Start everything, let trouble come, heal, and see it to the end."""
        self._start_all()
        self._plan_traffic()
        self._plan_trouble()
        self.loop.run(TROUBLE_S)
        self._heal()
        self._wait(self._has_healed, "delivered")
        for producer in self.producers:
            producer.publish()
        self._wait(self._has_healed, "delivered at the end")
        if self.random() < 0.2:
            self._come_again()

    def _plan_traffic(self) -> None:
        rng = self._rng
        for device in self.devices:
            self.loop.call_later(0.2 + rng.random(), self.come, device)
        for producer in self.producers:
            for _ in range(rng.randint(1, 3)):
                burst, at = rng.randint(1, 6), 0.3 + rng.random() * (TROUBLE_S - 0.8)
                for n in range(burst):
                    ttl_ms = rng.choice((1, 500, 60_000)) if rng.random() < 0.05 else 0
                    self.loop.call_later(at + n * rng.choice((0.0, 0.001, 0.1)), producer.publish, ttl_ms)

    def _plan_trouble(self) -> None:
        rng = self._rng
        for _ in range(rng.randint(0, 5)):
            self.loop.call_later(0.5 + rng.random() * (TROUBLE_S - 0.5), getattr(self, f"_{rng.choice(FAULTS)}"))
        if rng.random() < 0.05:
            self.redis_is_emptied = True
            self.loop.call_later(1.0 + rng.random() * (TROUBLE_S - 1.0), self.redis.flush)
        if self.alarms:
            at_s, for_s = 0.5 + self._apart.random() * (TROUBLE_S - 0.5), self._apart.random() * 2.0
            self.loop.call_later(at_s, self._alarm, for_s)
        if self.is_stuck:
            self._plan_stuck_redis(self._held)
        self.plan_darkness(random.Random(f"darkness of {self.seed}"), 0.5, TROUBLE_S)
        self.plan_time_faults(random.Random(f"time faults of {self.seed}"), 0.5, TROUBLE_S)
        self.plan_take_over(random.Random(f"take-over of {self.seed}"), 0.8, TROUBLE_S - 1.0)

    def _plan_stuck_redis(self, drawn: random.Random) -> None:
        """Let Redis take nothing for long, while messages go on coming."""
        self.loop.call_later(0.2 + drawn.random() * 0.5, self._stuff_redis, STUCK_S)
        self.still_until_s = 1.0 + STUCK_S
        for _ in range(drawn.randint(4, 12)):
            producer = drawn.choice(self.producers)
            self.loop.call_later(0.7 + drawn.random() * STUCK_S, producer.publish)

    def _come_again(self) -> None:
        """Promise 3: what was delivered is not replayed to who does not ask for it."""
        self.loop.run(self.loop.time() + FLUSHED_S)
        self._wait(self._is_noted, "noted as sent")  # a call into a partition that has healed may hang till its timeout
        self.trace("everybody comes again")
        before = {id(record) for history in self._histories.values() for record in history.subscriptions}
        for device in self.devices:
            device.resumes, device.lies = False, None
            device.disconnect(noticed_after_s=0.0)
        self._wait(lambda: all(device.settled for device in self.devices), "connected again")
        self.loop.run(self.loop.time() + LOOK_S)
        for (user, destination), history in self._histories.items():
            for record in history.subscriptions:
                if id(record) not in before and record.seen:
                    first = record.seen[0]
                    self.failures.append(f"{user} {destination}: {first.id} is replayed to {record.device}")

    def _is_noted(self) -> bool:
        """Whether Redis knows how far everybody was sent to."""
        for (user, destination), history in self._histories.items():
            meta = self.redis.keyspace.data.get(self.keys.meta(user, Destination.parse(destination)), {})
            newest = (record.seen[-1].id for record in history.subscriptions if record.open and record.seen)
            if max(newest, default=ZERO_ID) > meta.get("sent", ZERO_ID):
                return False
        return True

    def judge(self) -> Report:
        """Return what the checker says."""
        for (user, destination), history in self._histories.items():
            parsed, keyspace = Destination.parse(destination), self.redis.keyspace
            history.log = keyspace.history.get(self.keys.log(user, parsed), [])
            history.fates_known = True
            history.lossless = self.redis.lossless
            history.emptied_at = keyspace.emptied_at
            history.noted = list(keyspace.noted.get(self.keys.meta(user, parsed), ()))
            for attempt in history.attempts:
                attempt.returned_at = self.broker.ingress.returned.get(attempt.body.encode(), [])
        for body in self.broker.rejected:
            user, _, rest = body.decode().partition("/")
            self.history(user, "/" + rest.partition("#")[0]).rejected.add(body.decode())
        self.failures += self.loop.errors
        return check(self._histories)

    def _populate(self) -> None:
        rng = self._rng
        for user in ("ann", "bob")[: rng.choice((1, 1, 1, 2))]:
            destinations = rng.choice((("/queue/x",), ("/queue/x",), ("/queue/x", "/topic/x")))
            for n in range(rng.choice((1, 1, 2, 3))):
                ack = rng.choice(("auto", "client", "client-individual"))
                resumes = rng.random() < 0.6
                name = f"{user}-{n}({ack}{', resumes' if resumes else ''})"
                self.devices.append(Device(self, name, user, destinations, ack=ack, resumes=resumes))
            for destination in destinations:
                drawn = random.Random(f"ids of {self.seed} {user} {destination}").random()
                self.producers.append(Producer(self, user, destination, identifies=drawn >= self.unidentified_share))
        for device, lies in zip(self.devices, draw_lies(self, len(self.devices)), strict=True):
            device.lies = lies

    def _copy_faults(self) -> broker_model.CopyFaults:
        rng = self._rng
        if rng.random() < 0.4:
            return broker_model.CopyFaults()
        lost, doubled, late, returned = (rng.choice((0.0, 0.1, 0.3)) for _ in range(4))
        if not self.walks:
            lost = returned = 0.0  # nothing but the walk finds the last copy of all when that is lost
        return broker_model.CopyFaults(lost, doubled, late, returned)

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        end = max(self.loop.time(), self.still_until_s) + HEAL_WITHIN_S
        while not done():
            if self.loop.time() >= end:
                self.failures.append(f"not everything is {what} within {HEAL_WITHIN_S:g} s: {self._explain()}")
                return
            self._start_all()
            self.loop.run(self.loop.time() + LOOK_S)

    def _start_all(self) -> None:
        for process in (*self.gateways, *self.dispatchers):
            process.start(self.mode)

    def _heal(self) -> None:
        self.trace("everything heals")
        self._cuts.clear()
        self._full_until = 0.0
        self.broker.faults = broker_model.CopyFaults()
        self.broker.end_alarm()
        self._start_all()
        for device in self.devices:
            device.slow = False
            self.come(device)

    def _has_healed(self) -> bool:
        return (
            self.loop.time() >= self.still_until_s
            and self.redis.up
            and self.broker.up
            and self.broker.ingress.idle
            and all(producer.settled for producer in self.producers)
            and all(device.settled for device in self.devices)
            and all(process.alive for process in (*self.gateways, *self.dispatchers))
            and all(self._has_all(user, destination) for user, destination in self._histories)
        )

    def _has_all(self, user: str, destination: str) -> bool:
        """Whether every subscription that stands has got the newest entry, or starts behind it."""
        parsed = Destination.parse(destination)
        entries = self.redis.keyspace.history.get(self.keys.log(user, parsed), [])
        kept = [entry for entry in entries if entry.fate is Fate.KEPT]
        if not kept:
            return True
        newest = kept[-1]
        history = self._histories[user, destination]
        attempt = next(attempt for attempt in history.attempts if attempt.body == newest.body)
        if attempt.expires:
            return True
        cursor = self.redis.keyspace.data.get(self.keys.meta(user, parsed), {}).get("cursor", ZERO_ID)
        for record in history.subscriptions:
            got = record.seen[-1].id if record.seen else record.has or ZERO_ID
            late = record.subscribed_at is not None and attempt.attempted_at <= record.subscribed_at
            if record.open and got < newest.id and not (not record.seen and late and cursor >= newest.id):
                return False
        return True

    def _explain(self) -> str:
        facts = [
            ("redis up", self.redis.up),
            ("broker up", self.broker.up),
            ("ingress idle", self.broker.ingress.idle),
            ("confirmed", all(producer.settled for producer in self.producers)),
            *((device.name, device.settled) for device in self.devices),
            *((process.name, process.alive) for process in (*self.gateways, *self.dispatchers)),
            *((f"{user}{dest} has all", self._has_all(user, dest)) for user, dest in self._histories),
        ]
        return ", ".join(f"{name}: no" for name, holds in facts if not holds)


def run_schedule(seed: int, say: Callable[[str], None] | None = None) -> Result:
    """Run the schedule of a seed, inside `programs.installed`; `say` gets the trace, line by line."""
    digest = hashlib.sha256()

    def hear(line: str) -> None:
        digest.update(line.encode())
        if say is not None:
            say(line)

    world = World(seed, hear if say is not None else None)
    world.loop.begin()
    try:
        world.run()
        report = world.judge()
    finally:
        world.loop.end()
    return Result(seed, report, world.failures, digest.hexdigest())
