"""The admin server of every program: /healthz, /readyz and /metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SHUTDOWN_TIMEOUT_S: Final = 5.0
"""How long the server waits for requests that have begun, when it closes."""

Readiness = Callable[[], tuple[bool, str]]
"""Returns whether the program is ready, and the reason in words."""


@dataclass(slots=True)
class AdminServer:
    """A server that runs once, from `start` to `close`. `/metrics` has the registry's metrics and `process_…`."""

    host: str
    port: int
    """0: the system chooses one, and `start` returns it."""
    readiness: Readiness
    registry: CollectorRegistry
    healthy: Callable[[], bool] = lambda: True
    """Whether the process works. False makes Kubernetes restart it."""
    _runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen, and return the port. Raise OSError if it is taken."""
        ProcessCollector(registry=self.registry)
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner, port = await serve(app, self.host, self.port)
        return port

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        healthy = self.healthy()
        return web.Response(text="ok\n" if healthy else "not healthy\n", status=200 if healthy else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        ready, reason = self.readiness()
        return web.Response(text=f"{reason}\n", status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve an application until its runner's `cleanup`. Return the runner and the port that it listens on."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])
