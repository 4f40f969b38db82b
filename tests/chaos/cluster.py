"""Two gateways and two dispatchers as processes on real services, and what can happen to them."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.routing import RoutingMode
from pushcluster_runtime.redis.client import connect
from tests.support.containers import Services, kill_and_start, restart
from tests.support.dispatchers import RunningDispatcher, started_dispatcher
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.gateways import environment_of
from tests.support.planes import Plane
from tests.support.waiting import eventually

MAX_ENTRIES: Final = "100000"
"""No limit of promise 3 may play a part."""


@dataclass
class ChaosCluster:
    """The processes of one run."""

    plane: Plane
    services: Services
    mode: RoutingMode
    mutant: str = ""
    """A name in `simulation.mutants`, to see the checker red."""
    gateways: list[GatewayProcess] = field(default_factory=list)
    dispatchers: list[RunningDispatcher] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def urls(self) -> list[str]:
        """Where clients may try to connect."""
        return [each.url for each in self.gateways if each.has_logged("listening") and each.process.returncode is None]

    # Faults. Each returns what shows that it has happened.

    async def kill_gateway(self) -> str:
        """`kill -9`; another one takes its place."""
        victim = self.gateways.pop(0)
        code = await victim.end(signal.SIGKILL)
        assert code == -signal.SIGKILL
        await self.add_gateway()
        return f"exit code {code}"

    async def kill_dispatcher(self) -> str:
        """`kill -9` of the one that has more partitions; another one takes its place."""
        consumed: dict[int, float] = {}

        async def has_worked() -> bool:
            # The broker's confirms, which the fault waits for, come before a dispatcher's acknowledgements.
            consumed.update({id(each): await each.metric("acknowledged_total") for each in self.dispatchers})
            return max(consumed.values()) > 0

        await eventually(has_worked)
        victim = max(self.dispatchers, key=lambda each: consumed[id(each)])
        self.dispatchers.remove(victim)
        await victim.kill()
        await self.add_dispatcher()
        return f"exit code {victim.process.returncode}, {consumed[id(victim)]:.0f} acknowledged before"

    async def kill_redis(self) -> str:
        """`kill -9`, and start again on its append-only file."""
        before = await self._redis_run_id()
        await kill_and_start(self.services.redis)
        after = await self._redis_run_id()
        assert before != after
        return f"run id {before[:6]} became {after[:6]}"

    async def restart_rabbitmq(self) -> str:
        """Stop the only node and start it again on its data."""
        await restart(self.services.rabbitmq)
        return "stopped and started"

    async def change_mode(self) -> str:
        """Restart everything, one by one, in the next mode, as a rolling update does."""
        modes = list(RoutingMode)
        self.mode, before = modes[(modes.index(self.mode) + 1) % len(modes)], self.mode
        for _ in range(len(self.gateways)):
            await self.add_gateway()
            code = await self.gateways.pop(0).end(signal.SIGTERM)
            assert code == 0
        for _ in range(len(self.dispatchers)):
            await self.add_dispatcher()
            assert await self.dispatchers.pop(0).terminate() == 0
        return f"{before.value} became {self.mode.value}"

    async def add_gateway(self) -> None:
        """Start one and wait until it can be connected to."""
        environment = environment_of(self.plane, ROUTING_MODE=self.mode.value, AUTH_MODE="Trusted")
        if self.mutant:
            process = gateway_process(environment, module="tests.chaos.broken", arguments=("gateway", self.mutant))
        else:
            process = gateway_process(environment)
        gateway = await self._stack.enter_async_context(process)
        await eventually(lambda: gateway.has_logged("connected to RabbitMQ"))
        self.gateways.append(gateway)

    async def add_dispatcher(self) -> None:
        """Start one and wait until it is ready."""
        program = ("tests.chaos.broken", "dispatcher", self.mutant) if self.mutant else ("pushcluster_dispatcher",)
        variables = {"ROUTING_MODE": self.mode.value, "OFFLINE_MAX_PER_DESTINATION": MAX_ENTRIES}
        dispatcher = await self._stack.enter_async_context(started_dispatcher(self.plane, program, **variables))
        await dispatcher.wait_ready()
        self.dispatchers.append(dispatcher)

    async def close(self) -> None:
        """End every process."""
        await self._stack.aclose()

    async def _redis_run_id(self) -> str:
        client = connect(self.plane.redis_url, name="chaos")
        try:
            return str((await client.info("server"))["run_id"])
        finally:
            await client.aclose()


@asynccontextmanager
async def chaos_cluster(
    plane: Plane, services: Services, mode: RoutingMode, mutant: str = ""
) -> AsyncIterator[ChaosCluster]:
    """Run everything until the end of the block."""
    cluster = ChaosCluster(plane, services, mode, mutant)
    try:
        for _ in range(2):
            await cluster.add_dispatcher()
            await cluster.add_gateway()
        yield cluster
    finally:
        await cluster.close()
