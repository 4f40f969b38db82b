"""The durability barrier: wait until appends are on disk, with one write and one WAITAOF for all partitions that wait.

WAITAOF returns when Redis has fsynced everything up to the caller's own last write. That includes every APPEND that was
answered before this write was sent. A request that arrives while a barrier is under way waits for the next one, because
its appends may have been answered after the write.

Each barrier costs Redis a script and an fsync, however many wait for it. Clients never do: their copies leave before.
So a request says whether it is urgent. One that is not waits a little, and many share one barrier.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.log.interfaces import Sleep, Wire, WireSource
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.wire import Reply, pack

WAIT_MS: Final = 2_000
"""How long one WAITAOF may take: less than Redis may be silent. `appendfsync everysec` needs about one second."""

ACKNOWLEDGE_EVERY_S: Final = 0.1
"""How long a request that is not urgent may wait for its barrier to begin, so that others share it.

At 100 messages a second, this saves nine of ten barriers. Longer would save little more, and a dispatcher that is
killed leaves what it took in this time to be appended again.
"""

_AOF_IS_OFF: Final = "appendonly is disabled"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    run_id: str
    """Which run of Redis answered the appends."""
    done: asyncio.Future[None]


class Barrier:
    """Runs barriers while anybody waits for one."""

    def __init__(
        self,
        link: WireSource,
        keys: Keys,
        *,
        backoff: Backoff,
        on_barrier: Callable[[float], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._link = link
        # EVAL sends the whole script. With EVALSHA, no barrier would ever pass after a SCRIPT FLUSH.
        write = pack("EVAL", Script.BARRIER.source(), 1, keys.barrier)
        self._commands = (write, pack("WAITAOF", 1, 0, WAIT_MS))
        self._backoff = backoff
        self._on_barrier = on_barrier
        self._sleep = sleep
        self._requests: list[_Request] = []
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        """Makes a barrier due. It is there while a request waits that is not urgent."""
        self.durability_reduced = False
        """Whether Redis keeps no append-only file. What it has answered is then lost when it ends."""

    def request(self, run_id: str, *, urgent: bool = True) -> asyncio.Future[None]:
        """Return a future that resolves when all that run `run_id` of Redis has answered by now is on disk.

        The future fails with Unavailable if Redis was restarted before that.

        An urgent request makes a barrier due at once, for all that wait. Any other makes one due after
        ACKNOWLEDGE_EVERY_S at the latest.
        """
        loop = asyncio.get_running_loop()
        request = _Request(run_id, loop.create_future())
        self._requests.append(request)
        if urgent:
            self._due.set()
        elif self._timer is None:
            self._timer = loop.call_later(ACKNOWLEDGE_EVERY_S, self._due.set)
        return request.done

    async def run(self) -> None:
        """Serve requests until cancelled."""
        while True:
            await self._due.wait()
            wire = await self._link.wire()
            # Nothing is awaited from here to the write, so the appends of all these requests were answered before it.
            requests = self._take_requests()
            if not requests:
                continue
            started = asyncio.get_running_loop().time()
            try:
                await self._pass(wire)
            except Unavailable as error:
                self._ask_again(requests)
                _log.warning("the durability barrier failed; the dispatcher repeats it", extra={"reason": str(error)})
                await self._sleep(self._backoff.next_delay_s())
                continue
            self._backoff.reset()
            self._on_barrier(asyncio.get_running_loop().time() - started)
            for request in requests:
                _answer(request, wire.run_id)

    def _take_requests(self) -> list[_Request]:
        """Return all requests for which somebody still waits, urgent or not. Nothing is due then."""
        requests, self._requests = self._requests, []
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return [request for request in requests if not request.done.done()]

    def _ask_again(self, requests: list[_Request]) -> None:
        self._requests = requests + self._requests
        self._due.set()

    async def _pass(self, wire: Wire) -> None:
        """Return when all that Redis had answered before is on disk. Raise Unavailable.

        If it takes longer than WAIT_MS, WAITAOF is sent again without a new write. If each fsync takes that long, a new
        write would miss every one of them.
        """
        written, waited = await wire.execute(self._commands)
        if isinstance(written, Exception):
            raise Unavailable(str(written))
        while not self._judge(waited):
            (waited,) = await wire.execute(self._commands[1:])

    def _judge(self, waited: Reply) -> bool:
        """Return whether the write is on disk, or Redis has no append-only file. Raise Unavailable."""
        if not isinstance(waited, Exception):
            self._set_reduced(reduced=False)
            return bool(waited[0] >= 1)
        if _AOF_IS_OFF not in str(waited):
            raise Unavailable(str(waited))
        self._set_reduced(reduced=True)
        return True

    def _set_reduced(self, *, reduced: bool) -> None:
        if reduced and not self.durability_reduced:
            _log.warning(
                "DurabilityReduced: Redis has no append-only file and loses messages if it ends; set `appendonly yes`"
            )
        self.durability_reduced = reduced


def _answer(request: _Request, run_id: str) -> None:
    if request.done.done():
        return
    if request.run_id == run_id:
        request.done.set_result(None)
    else:
        request.done.set_exception(Unavailable("Redis: restarted before the barrier"))
        request.done.exception()  # marks it as seen: the partition may have ended already
