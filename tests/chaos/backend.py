"""A back end that publishes through every fault, and sends again, in order, what was not confirmed."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.headers import DESTINATION as DESTINATION_HEADER
from pushcluster_contract.topology import PUSH_EXCHANGE, build_topology
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection, ConfirmOutcome
from tests.chaos.devices import DESTINATION
from tests.support.delivery_log import Attempt, History

PER_SECOND: Final = 2_500
"""Paced, so that the fault lies inside the window."""
TICK_S: Final = 0.02
IN_FLIGHT: Final = 1_000
RETRY_S: Final = 0.3


class BackEnd:
    """Publishes to all users in turn until it has enough confirms and `may_stop` says so."""

    def __init__(self, url: str, users: Sequence[str], *, at_least: int, may_stop: Callable[[], bool]) -> None:
        self.confirmed = 0
        self.connections = 0
        self._url = url
        self._histories = {user: History() for user in users}
        self._at_least = at_least
        self._may_stop = may_stop
        self._turns: Iterator[str] = itertools.cycle(users)
        self._unconfirmed: dict[Attempt, str] = {}

    def history(self, user: str) -> History:
        return self._histories[user]

    async def run(self) -> None:
        """Publish until everything that was published is confirmed."""
        while True:
            try:
                amqp = await AmqpConnection.connect(self._url, name="back end")
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            self.connections += 1
            try:
                channel = await amqp.channel(confirm=True)
                await channel.declare(build_topology())
                await self._publish(channel)
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            else:
                return
            finally:
                await amqp.close()

    async def _publish(self, channel: AmqpChannel) -> None:
        for attempt, user in list(self._unconfirmed.items()):
            self._send(channel, user, attempt)
        while self._unconfirmed or self.confirmed < self._at_least or not self._may_stop():
            if channel.lost.done():
                raise Unavailable(channel.lost.result())
            wanted = self.confirmed + len(self._unconfirmed) < self._at_least or not self._may_stop()
            room = min(int(PER_SECOND * TICK_S), IN_FLIGHT - len(self._unconfirmed))
            for user in itertools.islice(self._turns, room if wanted else 0):
                attempts = self._histories[user].attempts
                attempt = Attempt(f"{user}#{len(attempts)}", time.monotonic())
                attempts.append(attempt)
                self._unconfirmed[attempt] = user
                self._send(channel, user, attempt)
            await asyncio.sleep(TICK_S)

    def _send(self, channel: AmqpChannel, user: str, attempt: Attempt) -> None:
        properties = BasicProperties(
            message_id=attempt.body, delivery_mode=2, headers={DESTINATION_HEADER: DESTINATION}
        )
        sent = channel.publish(PUSH_EXCHANGE, user, attempt.body.encode(), properties, mandatory=False)
        sent.add_done_callback(lambda done: self._settle(attempt, done))

    def _settle(self, attempt: Attempt, done: "asyncio.Future[ConfirmOutcome]") -> None:
        if done.cancelled() or done.exception() is not None or done.result() is not ConfirmOutcome.CONFIRMED:
            return  # it is sent again over the next connection
        attempt.confirmed = True
        if self._unconfirmed.pop(attempt, None) is not None:
            self.confirmed += 1
