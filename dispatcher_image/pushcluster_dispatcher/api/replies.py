"""Requests that wait for the outcomes of their messages."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_dispatcher.messages import RejectClass
from pushcluster_runtime.amqp import Delivery

MAX_WAITING: Final = 1_000
"""How many messages' outcomes one dispatcher may wait for at the same time."""

_log = logging.getLogger(__name__)


class TooManyWaiting(Exception):
    """The dispatcher already waits for the outcomes of MAX_WAITING messages."""


@dataclass(slots=True)
class Collected:
    """The outcomes of one message that have arrived. Pure."""

    sessions: tuple[str, ...] = ()
    """The sessions that are to report. Empty until the first one has reported."""
    by_session: dict[str, OutcomeReport] = field(default_factory=dict)
    whole: OutcomeReport | None = None
    """An outcome of the message as a whole: stored, rejected, expired."""

    def take(self, report: OutcomeReport) -> None:
        """Note a report. A second one of the same session changes nothing."""
        if report.session:
            self.sessions = report.sessions or self.sessions
            self.by_session.setdefault(report.session, report)
        else:
            self.whole = self.whole or report

    @property
    def conflict(self) -> str:
        """Why the message is not the one that was published under its message id before. "": it is no such case."""
        whole = self.whole
        # The API checks the form of message ids, so a dispatcher has nothing else against one.
        return whole.reason if whole is not None and whole.cause == RejectClass.MESSAGE_ID else ""

    @property
    def complete(self) -> bool:
        """Whether all outcomes have arrived."""
        return self.whole is not None or (bool(self.sessions) and self.by_session.keys() >= set(self.sessions))


class Waiter:
    """Collects one message's outcomes as they arrive."""

    def __init__(self, address: ReplyAddress) -> None:
        self.address = address
        self.collected = Collected()
        self._done = asyncio.Event()

    async def wait_until(self, deadline: float) -> Collected:
        """Return all outcomes, or those that have arrived by `deadline` (seconds of the event loop)."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._done.wait()
        except TimeoutError:
            pass
        return self.collected

    def take(self, report: OutcomeReport) -> None:
        """Note a report."""
        self.collected.take(report)
        if self.collected.complete:
            self._done.set()

    def give_up(self) -> None:
        """End the wait: no more outcomes will come."""
        self._done.set()


class Replies:
    """All waiters, by their message's correlation id."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._waiters: dict[str, Waiter] = {}
        self._queue = ""

    def opened(self, queue: str) -> None:
        """Note the queue that reports arrive in from now on."""
        self._queue = queue

    def lost(self) -> None:
        """Note that the queue is gone, with all reports in it. End all waits."""
        self._queue = ""
        for waiter in self._waiters.values():
            waiter.give_up()

    @contextmanager
    def waiting(self) -> Iterator[Waiter]:
        """Return a waiter for use inside the block. Raise Unavailable without a queue, or TooManyWaiting."""
        if not self._queue:
            raise Unavailable("RabbitMQ cannot be reached")
        if len(self._waiters) >= MAX_WAITING:
            raise TooManyWaiting
        address = ReplyAddress(self._queue, self._new_id())
        waiter = self._waiters[address.correlation_id] = Waiter(address)
        try:
            yield waiter
        finally:
            del self._waiters[address.correlation_id]

    def receive(self, delivery: Delivery) -> None:
        """Take a report from the queue. Without a waiter it came too late, and is dropped."""
        waiter = self._waiters.get(str(delivery.properties.correlation_id))
        if waiter is None:
            return
        try:
            waiter.take(OutcomeReport.parse(delivery.body))
        except InvalidInput as error:
            _log.warning("an outcome cannot be read and is dropped", extra={"reason": str(error)})
