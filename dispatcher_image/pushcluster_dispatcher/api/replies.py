"""Requests that wait for the outcomes of what they published."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.outcomes import OutcomeReport, ReplyAddress
from pushcluster_runtime.amqp.connection import Delivery

MAX_WAITING: Final = 1_000
"""Messages whose outcomes are waited for at once in one dispatcher."""

_log = logging.getLogger(__name__)


class TooManyWaiting(Exception):
    """MAX_WAITING messages are waited for already."""


@dataclass(slots=True)
class Collected:
    """What has been heard about one message. Pure."""

    sessions: tuple[str, ...] = ()
    """Who is to report; empty until the first one has."""
    by_session: dict[str, OutcomeReport] = field(default_factory=dict)
    whole: OutcomeReport | None = None
    """What holds for the message as a whole: stored, rejected, expired."""

    def take(self, report: OutcomeReport) -> None:
        """Note a report; a second one of the same session changes nothing."""
        if report.session:
            self.sessions = report.sessions or self.sessions
            self.by_session.setdefault(report.session, report)
        else:
            self.whole = self.whole or report

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return self.whole is not None or (bool(self.sessions) and self.by_session.keys() >= set(self.sessions))


class Waiter:
    """One message's outcomes as they come in."""

    def __init__(self, address: ReplyAddress) -> None:
        self.address = address
        self.collected = Collected()
        self._done = asyncio.Event()

    async def wait_until(self, deadline: float) -> Collected:
        """Return everything once it is complete, or what there is at `deadline` (seconds of the event loop)."""
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
        """Nothing more will come."""
        self._done.set()


class Replies:
    """All waiters, by the correlation id that their message carries."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._waiters: dict[str, Waiter] = {}
        self._queue = ""

    def opened(self, queue: str) -> None:
        """Reports arrive in this queue from now on."""
        self._queue = queue

    def lost(self) -> None:
        """The queue is gone, with all that was in it."""
        self._queue = ""
        for waiter in self._waiters.values():
            waiter.give_up()

    @contextmanager
    def waiting(self) -> Iterator[Waiter]:
        """Wait inside the block. Raises Unavailable without a queue, and TooManyWaiting."""
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
        """Take what came to the queue; what is for nobody came too late."""
        waiter = self._waiters.get(str(delivery.properties.correlation_id))
        if waiter is None:
            return
        try:
            waiter.take(OutcomeReport.parse(delivery.body))
        except InvalidInput as error:
            _log.warning("an outcome cannot be read", extra={"reason": str(error)})
