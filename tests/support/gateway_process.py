"""A gateway as its own process, for tests that send it signals."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.waiting import WITHIN_S


@dataclass
class GatewayProcess:
    """`python -m pushcluster_gateway`."""

    process: asyncio.subprocess.Process
    log: list[dict[str, object]] = field(default_factory=list)

    @property
    def url(self) -> str:
        (port,) = [record["port"] for record in self.log if record["message"] == "listening"]
        return f"ws://127.0.0.1:{port}/ws"

    @property
    def incarnation(self) -> str:
        (incarnation,) = [record["incarnation"] for record in self.log if record["message"] == "listening"]
        return str(incarnation)

    def has_logged(self, message: str) -> bool:
        return any(record["message"] == message for record in self.log)

    async def end(self, by: signal.Signals, within_s: float = WITHIN_S) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(by)
        async with asyncio.timeout(within_s):
            return await self.process.wait()


@asynccontextmanager
async def gateway_process(
    environment: Mapping[str, str], *, module: str = "pushcluster_gateway", arguments: Sequence[str] = ()
) -> AsyncIterator[GatewayProcess]:
    """Run the program until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=dict(environment), stderr=asyncio.subprocess.PIPE
    )
    running = GatewayProcess(process)
    reader = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reader


async def _read(running: GatewayProcess) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        running.log.append(json.loads(line))
