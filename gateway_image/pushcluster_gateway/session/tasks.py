"""Runs each request of a client as a task.

A task never raises. Unavailable becomes an ERROR frame that asks the client to try again, and an unexpected error one
that says so. Why is in the log: the ERROR frame carries a reference to it, because the reason names addresses and
versions of services inside.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pushcluster_contract.errors import Unavailable
from pushcluster_gateway import close_codes
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.errors import TooManySessions
from pushcluster_gateway.session.fault_references import REFERENCE_BYTES, FaultReferences
from pushcluster_gateway.session.interfaces import Requester
from pushcluster_gateway.stomp.errors import ProtocolViolation
from pushcluster_runtime.backoff import Backoff

_log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


class ClientTasks:
    """All running tasks of one gateway."""

    def __init__(self, metrics: Metrics, environment: Environment) -> None:
        self._metrics = metrics
        self._environment = environment
        self._references = FaultReferences(environment.entropy)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Work, client: Requester, receipt: str | None = None) -> asyncio.Task[None]:
        """Run a task for a client. An ERROR frame about it carries `receipt`."""
        task = asyncio.get_running_loop().create_task(self._guard(work, client, receipt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def spawn_call(self, work: Work, client: Requester, receipt: str | None) -> None:
        """Run a task for a frame of the client. The client bounds the number of these tasks."""
        self.spawn(work, client, receipt).add_done_callback(lambda _: client.call_ended())

    async def until_available(
        self, call: Callable[[], Coroutine[Any, Any, Any]], wanted: Callable[[], bool] = lambda: True
    ) -> Any:
        """Return the answer of a call, repeated until Redis answers; or None when it is no longer wanted."""
        backoff = Backoff(self._environment.random)
        while wanted():
            try:
                return await call()
            except Unavailable:
                self._metrics.redis_errors += 1
                await asyncio.sleep(backoff.next_delay_s())
        return None

    async def wait_finished(self, within_s: float) -> None:
        """Wait up to `within_s` for running tasks, then cancel the rest."""
        clock = self._environment.clock
        deadline = clock() + within_s
        while self._tasks and (left_s := deadline - clock()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guard(self, work: Work, client: Requester, receipt: str | None) -> None:
        try:
            await work()
        except Unavailable as error:
            self._metrics.calls_failed += 1
            client.fail(close_codes.unavailable(error.retry_after_ms), self._put_off(client, str(error)), receipt)
        except TooManySessions as error:
            client.fail(close_codes.TOO_MANY_SESSIONS, str(error), receipt)
        except ProtocolViolation as violation:
            client.fail(violation.ending, str(violation), receipt)
        except Exception:
            reference = self._environment.entropy(REFERENCE_BYTES).hex()
            _log.exception("a client's request failed", extra={"session": client.sid, "reference": reference})
            text = f"an unexpected error; the gateway's log has it under reference {reference}"
            client.fail(close_codes.INTERNAL_ERROR, text, receipt)

    def _put_off(self, client: Requester, cause: str) -> str:
        """Return what to tell a client whose request cannot be answered now. Log the cause unless the log has it."""
        reference = self._references.refer(cause, self._environment.clock())
        if reference.is_new:
            _log.warning(
                "a client's request is put off; others for the same cause share this reference for a while",
                extra={"session": client.sid, "cause": cause, "reference": reference.id},
            )
        return (
            "a service that this gateway needs does not answer now, try again; "
            f"the gateway's log says more under reference {reference.id}"
        )
