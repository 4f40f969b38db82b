"""The real gateway and the real dispatcher, as processes of the simulated world.

Their own `main` modules put them together; what `installed` replaces are the libraries below them: AMQP connections,
Redis connections, listening sockets and metrics pages. Everything that decides is the product's own code.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from pushcluster_contract import env
from pushcluster_contract.destinations import Destination
from pushcluster_contract.routing import Copy, RoutingMode, plan_copies
from pushcluster_dispatcher import main as dispatcher_main
from pushcluster_dispatcher import settings as dispatcher_settings
from pushcluster_dispatcher.egress import copies as dispatcher_copies
from pushcluster_dispatcher.egress import path_switch as dispatcher_paths
from pushcluster_dispatcher.egress.path_switch import GatewayPath, PathSwitch
from pushcluster_dispatcher.ingress import consumer as dispatcher_consumer
from pushcluster_dispatcher.log import redis_link
from pushcluster_dispatcher.settings import Settings as DispatcherSettings
from pushcluster_gateway import drain as gateway_drain
from pushcluster_gateway import main as gateway_main
from pushcluster_gateway.broker import link as gateway_link
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.settings import Settings as GatewaySettings
from pushcluster_gateway.stomp.frames import Version
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_runtime.amqp import publisher_connection
from pushcluster_runtime.settings import EnvironmentVariables
from tests.simulation import amqp_model, redis_model

if TYPE_CHECKING:
    from pushcluster_contract.ids import Incarnation

CLUSTER: Final = "simulated.demo"
PARTITIONS: Final = 1
"""All users share one, so that they meet in the same batches."""
CHANNELS: Final = 2


class _Server:
    """Stands for WebSocketServer: sockets come from `Gateway.open`."""

    def __init__(self, *, handler_factory: Callable[[Any, HandshakeResult], Any], **_: Any) -> None:
        self.handler_factory = handler_factory
        self.draining = False
        self.connections: set[Any] = set()

    @property
    def sockets(self) -> int:
        return len(self.connections)

    async def start(self, host: str, port: int) -> int:
        return 1

    async def wait_empty(self, within_s: float) -> None:
        await asyncio.sleep(min(within_s, 0.5))

    async def close(self) -> None:
        for connection in sorted(self.connections, key=lambda each: each.number):
            connection.abort()


class _Admin:
    """Stands for AdminServer."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    async def start(self) -> int:
        return 1

    async def close(self) -> None:
        return


class _Nothing:
    """Stands for what only counts."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


class _Hops(_Nothing):
    """Stands for what times hops. It subtracts what its clock returns."""

    @staticmethod
    def clock() -> float:
        return asyncio.get_running_loop().time()


class _DispatcherMetrics(_Nothing):
    """Stands for a dispatcher's metrics."""

    def __init__(self) -> None:
        self.hops = _Hops()


class _Random:
    """Stands for the module `random`."""

    @staticmethod
    def random() -> float:
        return asyncio.get_running_loop().world.random()  # type: ignore[attr-defined,no-any-return]


def _client(*_: Any, **__: Any) -> redis_model.Client:
    return redis_model.Client(asyncio.get_running_loop().world)  # type: ignore[attr-defined]


def _plan_copies(
    mode: RoutingMode,
    destination: Destination,
    subscribed: Mapping[str, "Incarnation"],
    without_queue: Container[str],
) -> tuple[Copy, ...]:
    """Plan copies as the dispatchers of this world do."""
    world = asyncio.get_running_loop().world  # type: ignore[attr-defined]
    if mode is RoutingMode.SESSION and world.old_dispatchers:
        # Version 0.2 tries the queue of every session, and sends what is returned to its gateway.
        return tuple(copy for sid, at in subscribed.items() for copy in plan_copies(mode, destination, {sid: at}))
    return plan_copies(mode, destination, subscribed, without_queue)


class _PathSwitch(PathSwitch):
    """Chooses paths as the dispatchers of this world do."""

    def count(self, gateway_queue: str, now_s: float) -> GatewayPath:
        world = asyncio.get_running_loop().world  # type: ignore[attr-defined]
        # Version 0.2 sends every copy to its own queue.
        return GatewayPath() if world.old_dispatchers else super().count(gateway_queue, now_s)


@contextmanager
def installed() -> Iterator[None]:
    """Replace the libraries below the programs inside the block."""
    with ExitStack() as stack:
        for module, name, stand_in in (
            (gateway_main, "connect", _client),
            (gateway_main, "ScriptRunner", lambda client: client),
            (gateway_main, "WebSocketServer", _Server),
            (gateway_main, "AdminServer", _Admin),
            (gateway_main, "CollectorRegistry", _Nothing),
            (gateway_drain, "ENDPOINTS_UPDATE_S", 0.3),
            (gateway_link, "AmqpConnection", amqp_model.Connection),
            (gateway_link, "CHANNELS", CHANNELS),
            (dispatcher_main, "AdminServer", _Admin),
            (dispatcher_main, "random", _Random),
            (dispatcher_main, "Metrics", _DispatcherMetrics),
            (dispatcher_settings, "MIN_KEPT_DELIVERED_MS", 2_500),
            (dispatcher_copies, "UNROUTABLE_S", 0.5),
            (dispatcher_copies, "plan_copies", _plan_copies),
            (dispatcher_copies, "PathSwitch", _PathSwitch),
            (dispatcher_paths, "JOIN_ABOVE", 2),
            (dispatcher_paths, "PART_AT", 1),
            (dispatcher_paths, "STAY_S", 0.2),
            (dispatcher_consumer, "AmqpConnection", amqp_model.Connection),
            (dispatcher_consumer, "INGRESS_PARTITIONS", PARTITIONS),
            (publisher_connection, "AmqpConnection", amqp_model.Connection),
            (redis_link, "RedisWire", redis_model.Wire),
        ):
            stack.enter_context(patch.object(module, name, stand_in))
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, disabled)
        yield


class Process:
    """One program that can be started, stopped and killed, again and again."""

    def __init__(self, world: Any, name: str) -> None:
        self.world = world
        self.name = name
        self.owner = world.loop.new_owner(name)
        self.owner.dead = True
        self._stop = asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self.owner.dead

    @property
    def stands_still(self) -> bool:
        return self.owner.backlog is not None

    def start(self, mode: RoutingMode) -> None:
        """Start it in this mode, unless it runs."""
        if self.owner.dead:
            self.world.trace("{} starts in mode {}", self.name, mode.value)
            self.owner = self.world.loop.new_owner(self.name)
            self._stop = asyncio.Event()
            self.world.loop.run_as(self.owner, self._start, mode)

    def stop(self) -> None:
        """SIGTERM."""
        self.world.trace("{} is stopped", self.name)
        self.owner.stopping = True
        self._stop.set()

    def kill(self) -> None:
        """`kill -9`; what it was connected to notices."""
        if not self.owner.dead:
            self.world.trace("{} is killed", self.name)
            owner = self.owner
            self.world.loop.kill(owner)
            for connection in [each for each in self.world.broker.connections if each.owner is owner]:
                self.world.broker.drop(connection)

    def _start(self, mode: RoutingMode) -> None:
        raise NotImplementedError

    async def _run(self, work: Any) -> None:
        owner = self.owner
        try:
            await work
        except Exception as error:  # a bug, or a server that is too old: neither is expected
            self.world.failures.append(f"{self.name} ended: {error!r}")
        if not owner.dead:
            self.world.trace("{} has ended", self.name)
            self.world.loop.call_soon(self.kill)


class Dispatcher(Process):
    """`pushcluster_dispatcher`."""

    def _start(self, mode: RoutingMode) -> None:
        settings = DispatcherSettings(
            cluster=CLUSTER,
            pod_name=self.name,
            mode=mode,
            retention=self.world.retention,
            listen_host="",
            admin_port=0,
            api=None,
            amqp_url="",
            redis_url="",
            consumer_timeout_s=self.world.consumer_timeout_s,
        )
        self.world.loop.create_task(self._run(dispatcher_main.main(settings, self._stop)))


class Gateway(Process):
    """`pushcluster_gateway`."""

    program: gateway_main.Program

    def __init__(self, world: Any, name: str) -> None:
        super().__init__(world, name)
        self.incarnations: list[Incarnation] = []
        """Every process start."""
        self.clock_ahead_s = 0.0
        """By how much somebody has set its node's clock forward."""

    @property
    def ready(self) -> bool:
        """What /readyz says."""
        return self.alive and not self.stands_still and self.program._judge_readiness()[0]

    def open(self, socket: Any) -> Any:
        """A client has opened a WebSocket; return what speaks over it."""
        server: Any = self.program._server
        server.connections.add(socket)
        return self.world.loop.run_as(self.owner, server.handler_factory, socket, HandshakeResult(Version.V1_2, ""))

    def forget(self, socket: Any) -> None:
        """The socket is gone."""
        server: Any = self.program._server
        server.connections.discard(socket)

    def kill(self) -> None:
        """See Process. What its kernel had taken reaches some clients, and others not."""
        if self.alive:
            super().kill()
            server: Any = self.program._server
            for socket in sorted(server.connections, key=lambda each: each.number):
                socket.reset() if self.world.random() < 0.5 else socket.abort()

    def _start(self, mode: RoutingMode) -> None:
        world = self.world
        settings = GatewaySettings.parse(
            EnvironmentVariables(
                {
                    env.CLUSTER: CLUSTER,
                    env.POD_NAME: self.name,
                    env.POD_UID: self.name,
                    env.AMQP_URL: "amqp://simulated",
                    env.REDIS_URL: "redis://simulated",
                    env.ROUTING_MODE: mode.value,
                    env.AUTH_MODE: "Trusted",
                    env.SUBSCRIPTION_QUEUES: str(world.subscription_queues),
                    env.DRAIN_SECONDS: "1",
                    env.RESUME_WINDOW_SECONDS: str(world.retention.resume_window_ms // 1_000),
                }
            )
        )
        off_s = world.random() * 0.2
        environment = Environment(
            clock=world.loop.time,
            wall_clock=lambda: float(world.now_ms / 1_000 + off_s + self.clock_ahead_s),
            entropy=world.entropy,
            random=world.random,
        )
        self.program = gateway_main.Program(settings, world.limits, environment)
        self.incarnations.append(self.program._incarnation)
        world.loop.create_task(self._run(self.program.run(self._stop, lambda _: None)))


LIMITS: Final = Limits(
    page_entries=4,
    page_bytes=50,
    max_unacked_messages=6,
    max_outbox_bytes=700,
    max_outbox_messages=4,
    walk_round_s=1.5,
    own_queue_after_s=0.3,
    min_kept_delivered_s=2.5,
    close_timeout_s=1.0,
)
"""So small that every bound is met in a few messages."""
