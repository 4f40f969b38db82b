"""A Redis connection that is opened again whenever it is lost."""

import asyncio
import logging

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.wire import RedisWire

_log = logging.getLogger(__name__)


class RedisLink:
    """Keeps one connection. Callers keep the wire that they got: a new wire may belong to a restarted Redis."""

    def __init__(self, url: str, *, name: str, backoff: Backoff) -> None:
        self._url = url
        self._name = name
        self._backoff = backoff
        self._wire: RedisWire | None = None
        self._connected = asyncio.Event()
        self.trouble = "not connected yet"
        """Why there is no connection now, in words. Empty while there is one."""

    @property
    def is_connected(self) -> bool:
        """Whether `wire` returns at once."""
        return self._wire is not None and not self._wire.lost.done()

    async def wire(self) -> RedisWire:
        """Return the connection. Wait until there is one."""
        while self._wire is None or self._wire.lost.done():
            self._connected.clear()
            await self._connected.wait()
        return self._wire

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        try:
            while True:
                await self._hold_one()
        finally:
            if self._wire is not None:
                self._wire.close()

    async def _hold_one(self) -> None:
        try:
            wire = self._wire = await RedisWire.connect(self._url, name=self._name)
        except Unavailable as error:
            self._report(str(error))
        else:
            self.trouble = ""
            self._backoff.reset()
            self._connected.set()
            _log.info("connected to Redis", extra={"connection": self._name, "run_id": wire.run_id})
            self._report(f"Redis: {await asyncio.shield(wire.lost)}")
        await asyncio.sleep(self._backoff.next_delay_s())

    def _report(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning(
                "no connection to Redis; the dispatcher tries again",
                extra={"connection": self._name, "reason": trouble},
            )
        self.trouble = trouble
