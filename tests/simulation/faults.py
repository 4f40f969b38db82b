"""Everything that can go wrong in a simulated world, and the hands that mend or do harm."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation
from tests.simulation import broker_model, redis_model, redis_server
from tests.simulation.clients import Device, Producer
from tests.simulation.loop import SimulatedLoop
from tests.simulation.programs import Dispatcher, Gateway, Process

FAULTS: Final = (
    *("kill_gateway", "kill_gateway", "stop_gateway", "kill_dispatcher", "kill_dispatcher", "stop_dispatcher"),
    *("crash_redis", "crash_redis", "fill_redis", "crash_broker", "drop_amqp", "delete_queue"),
    *("cut_off", "cut_off", "remove_by_mistake", "change_mode", "lose_producer", "forget"),
    *("disconnect", "disconnect", "disconnect", "stay_away", "slow_down", "slow_down", "resubscribe"),
)

DARK_SHARE: Final = 0.25
"""Of all schedules, those in which a device loses the network without a word while messages come for it."""
DARK_S: Final = 3.0
"""The gateway, and the device, notice that within this time."""


class Faults:
    """The faults of a `World`, by the names in FAULTS."""

    _rng: Random
    _cuts: dict[tuple[str, str], float]
    _full_until: float
    _takes_nothing_until: float
    walks: bool
    """Whether gateways look at their sessions all the time."""
    alarms: bool
    """Whether the broker is short of memory for a while."""
    random: Callable[[], float]
    loop: SimulatedLoop
    keys: Keys
    mode: RoutingMode
    still_until_s: float = 0.0
    """By then, whatever stands still goes on, everything late has arrived, and broken networks are noticed."""
    redis: redis_server.Server
    broker: broker_model.Server
    gateways: list[Gateway]
    dispatchers: list[Dispatcher]
    devices: list[Device]
    producers: list[Producer]

    def trace(self, text: str, *values: Any) -> None:
        raise NotImplementedError

    def come(self, device: Device) -> None:
        """Let a device connect, and stay."""
        device.wanted = True
        device.connect()

    def _kill_gateway(self) -> None:
        gateway = self._rng.choice(self.gateways)
        gateway.kill()
        self._restart(gateway)
        if self.random() < 0.7:
            self.loop.call_later(self.random() * 3.0, self._remove, gateway.incarnations[-1])

    def _stop_gateway(self) -> None:
        gateway = self._rng.choice(self.gateways)
        gateway.stop()
        self._restart(gateway)

    @property
    def _mortal_dispatchers(self) -> list[Dispatcher]:
        """Whoever leaves copies out under an alarm takes along which, and then the walk alone finds them."""
        return self.dispatchers if self.walks or not self.alarms else []

    def _kill_dispatcher(self) -> None:
        if not self._mortal_dispatchers:
            return
        dispatcher = self._rng.choice(self.dispatchers)
        dispatcher.kill()
        self._restart(dispatcher)

    def _stop_dispatcher(self) -> None:
        if not self._mortal_dispatchers:
            return
        dispatcher = self._rng.choice(self.dispatchers)
        dispatcher.stop()
        self._restart(dispatcher)

    def _restart(self, process: Process) -> None:
        self.loop.call_later(0.1 + self.random() * 2.0, lambda: process.start(self.mode))

    def _crash_redis(self) -> None:
        self.redis.crash(self._rng.choice((0.0, 1.0, self.random())), 0.1 + self.random() * 1.5)

    def _fill_redis(self) -> None:
        self.trace("redis is full")
        self._full_until = self.loop.time() + self.random() * 2.0

    def _stuff_redis(self, for_s: float) -> None:
        self.trace("redis takes no messages")
        self._takes_nothing_until = self.loop.time() + for_s

    def _crash_broker(self) -> None:
        for producer in self.producers:
            producer.lose_connection()
        self.broker.crash(0.1 + self.random() * 1.5)

    def _alarm(self, for_s: float) -> None:
        self.broker.raise_alarm()
        self.loop.call_later(for_s, self.broker.end_alarm)

    def _drop_amqp(self) -> None:
        if self.broker.connections:
            connection = self._rng.choice(self.broker.connections)
            self.trace("{} loses its AMQP connection", connection.owner.name)
            self.broker.drop(connection)

    def _delete_queue(self) -> None:
        self.broker.delete_some_queue(self._rng.choice)

    def _cut_off(self) -> None:
        process = self._rng.choice((*self.gateways, *self.dispatchers))
        service = self._rng.choice(("redis", "rabbitmq"))
        for_s = self.random() * 5.0
        self.trace("{} is cut off from {} for {:.2f} s", process.name, service, for_s)
        self._cuts[process.name, service] = self.loop.time() + for_s
        if service == "rabbitmq" and for_s > 1.0:
            for connection in [each for each in self.broker.connections if each.owner is process.owner]:
                self.loop.call_later(1.0, self.broker.drop, connection)

    def _remove_by_mistake(self) -> None:
        gateway = self._rng.choice(self.gateways)
        if gateway.incarnations:
            self._remove(gateway.incarnations[-1])

    def _change_mode(self) -> None:
        self.mode = self._rng.choice([mode for mode in RoutingMode if mode is not self.mode])
        self.trace("the mode becomes {}", self.mode.value)
        for n, process in enumerate((*self.gateways, *self._mortal_dispatchers)):
            self.loop.call_later(n * 0.3, process.stop)
            self.loop.call_later(n * 0.3 + 1.5, process.kill)
            self.loop.call_later(n * 0.3 + 1.6, lambda process=process: process.start(self.mode))

    def _lose_producer(self) -> None:
        self._rng.choice(self.producers).lose_connection()

    def _forget(self) -> None:
        producer = self._rng.choice(self.producers)
        if self.redis.clock_went_back:
            return  # see `step_clock`
        user, destination = producer.user, Destination.parse(producer.destination)
        self.trace("{} {} is forgotten", user, destination)
        keys = [self.keys.meta(user, destination), self.keys.log(user, destination), self.keys.destinations(user)]
        self.redis.lossless = False
        self.redis.keyspace.run(Script.FORGET, keys, [str(destination)], self.redis.now_ms)

    def _disconnect(self) -> None:
        noticed_s = self._rng.choice((0.0, 0.1, 2.0))
        self._rng.choice(self.devices).disconnect(noticed_after_s=noticed_s)

    def _stay_away(self) -> None:
        device = self._rng.choice(self.devices)
        device.wanted = False
        device.disconnect(noticed_after_s=0.1)
        self.loop.call_later(0.5 + self.random() * 4.0, self.come, device)

    def plan_darkness(self, drawn: Random, from_s: float, until_s: float) -> None:
        """Draw the faults of this schedule apart, so that one without any stays the schedule that it was."""
        if drawn.random() >= DARK_SHARE:
            return
        for _ in range(drawn.choice((1, 1, 2, 3))):
            device, at_s = drawn.choice(self.devices), from_s + drawn.random() * (until_s - from_s)
            noticed_s, notices_s = drawn.random() * DARK_S, drawn.random() * DARK_S
            self.loop.call_later(at_s, self._go_dark, device, noticed_s, notices_s)
            producers = [producer for producer in self.producers if producer.user == device.user]
            for _ in range(drawn.randint(0, 4)):
                self.loop.call_later(at_s + (drawn.random() - 0.2) * noticed_s, drawn.choice(producers).publish)

    def _go_dark(self, device: Device, noticed_s: float, notices_s: float) -> None:
        """Let its network break without a word: what is on the way never arrives, nor do acknowledgements of TCP."""
        self.still_until_s = max(self.still_until_s, self.loop.time() + max(noticed_s, notices_s))
        device.go_dark(noticed_after_s=noticed_s, notices_after_s=notices_s)

    def _slow_down(self) -> None:
        device = self._rng.choice(self.devices)
        self.trace("{} reads nothing", device.name)
        device.slow = True
        self.loop.call_later(self.random() * 4.0, setattr, device, "slow", False)

    def _resubscribe(self) -> None:
        self._rng.choice(self.devices).resubscribe()

    def _remove(self, incarnation: Incarnation) -> None:
        self.trace("the operator removes {}", incarnation)
        self.loop.create_task(self._remove_all(incarnation))

    async def _remove_all(self, incarnation: Incarnation) -> None:
        client: Any = redis_model.Client(self)
        try:
            await remove_incarnation(client, client, self.keys, incarnation)
        except Unavailable:
            self.loop.call_later(1.0, self._remove, incarnation)
