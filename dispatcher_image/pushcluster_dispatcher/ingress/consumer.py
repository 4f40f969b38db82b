"""Consume from ingress: run all partitions over one connection, and connect again after every loss."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES, INGRESS_PARTITIONS
from pushcluster_contract.topology import build_partition, consumer_priority, ingress_queue
from pushcluster_dispatcher.ingress.fencing import FencedLogs
from pushcluster_dispatcher.ingress.partition import PartitionServices, PartitionSession
from pushcluster_dispatcher.ingress.refused_partitions import RefusedPartitions
from pushcluster_dispatcher.ingress.time_limit import HeldTooLong
from pushcluster_dispatcher.log.barrier import Barrier
from pushcluster_dispatcher.log.interfaces import HeldWire
from pushcluster_dispatcher.log.redis_link import RedisLink
from pushcluster_dispatcher.log.user_log import Fence, UserLog
from pushcluster_dispatcher.settings import DRAIN_TIMEOUT_S, Settings
from pushcluster_runtime.amqp import AmqpChannel, AmqpConnection
from pushcluster_runtime.amqp.publisher_connection import PublisherConnection
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel, first_error, unless

APPEND_CONNECTIONS: Final = 4
"""How many connections to Redis the partitions share. Redis takes at most 16 KiB from each of them in one round, and
syncs its append-only file once a round. With more connections, more appends share one sync."""
STABLE_AFTER_S: Final = 10.0
"""A session that lasted this long has started well, so its back-off begins anew."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngressServices:
    """What all partitions share."""

    settings: Settings
    keys: Keys
    links: Sequence[RedisLink]
    """The connections for appends. Each partition has one of them."""
    barrier: Barrier
    publisher: PublisherConnection
    partition: PartitionServices
    new_backoff: Callable[[], Backoff]

    def link(self, partition: int) -> RedisLink:
        """Return the connection over which this partition appends."""
        return self.links[partition % len(self.links)]


class IngressConsumer:
    """Consumes all partitions until told to stop."""

    def __init__(self, services: IngressServices) -> None:
        self._services = services
        self._sessions: dict[int, PartitionSession] = {}
        self._refusals = RefusedPartitions()
        self._reported: set[str] = set()
        self._trouble = "not connected to RabbitMQ yet"

    def trouble(self) -> str:
        """Return why some partition has no consumer here now, or "". A consumer may also stand by."""
        missing = INGRESS_PARTITIONS - len(self._sessions)
        if not self._trouble and missing:
            return f"{missing} of {INGRESS_PARTITIONS} partitions have no consumer here yet"
        return self._trouble

    def refusal(self) -> str:
        """Return which partitions RabbitMQ has not let this dispatcher consume for long, or ""."""
        return self._refusals.describe(asyncio.get_running_loop().time())

    def count_refused(self) -> int:
        """Return how many partitions RabbitMQ has not let this dispatcher consume for long."""
        return self._refusals.count(asyncio.get_running_loop().time())

    def oldest_unacknowledged_s(self) -> float:
        """Return how long the oldest message of all partitions has been unacknowledged here. 0 without any."""
        return max((session.oldest_s() for session in self._sessions.values()), default=0.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, and connect again, until `stop`. Then finish what has begun, for at most DRAIN_TIMEOUT_S."""
        backoff = self._services.new_backoff()
        while not stop.is_set():
            try:
                await self._hold_connection(stop, backoff)
            except Unavailable as error:
                self._trouble = str(error)
                _log.warning("no connection to RabbitMQ; the dispatcher tries again", extra={"reason": str(error)})
                await unless(stop, asyncio.sleep(backoff.next_delay_s()))

    async def _hold_connection(self, stop: asyncio.Event, backoff: Backoff) -> None:
        settings = self._services.settings
        amqp = await unless(stop, AmqpConnection.connect(settings.amqp_url, name=f"dispatcher {settings.pod_name}"))
        if amqp is None:
            return
        try:
            self._trouble = ""
            backoff.reset()
            _log.info("connected to RabbitMQ")
            await self._run_partitions(amqp, stop)
        finally:
            self._refusals.forget()
            await amqp.close()

    async def _run_partitions(self, amqp: AmqpConnection, stop: asyncio.Event) -> None:
        """Return when all partitions have stopped. Raise Unavailable when the connection is lost."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_raise_when_lost(amqp))
                partitions = [group.create_task(self._run_partition(amqp, n, stop)) for n in range(INGRESS_PARTITIONS)]
                await asyncio.wait(partitions)
                watching.cancel()
        except ExceptionGroup as errors:
            raise first_error(errors) from None

    async def _run_partition(self, amqp: AmqpConnection, number: int, stop: asyncio.Event) -> None:
        """Keep one partition consumed until `stop`."""
        loop = asyncio.get_running_loop()
        backoff = self._services.new_backoff()
        prefetch = DISPATCHER_PREFETCH_MESSAGES
        while not stop.is_set():
            started = loop.time()
            try:
                prefetch = await self._run_session(amqp, number, prefetch, stop)
            except Unavailable as error:
                if loop.time() - started > STABLE_AFTER_S:
                    backoff.reset()
                self._services.partition.metrics.resets.inc()
                self._report_reset(number, str(error))
                await unless(stop, asyncio.sleep(backoff.next_delay_s()))

    async def _run_session(self, amqp: AmqpConnection, number: int, prefetch: int, stop: asyncio.Event) -> int:
        """Run one session to its end, and return the prefetch of the next one."""
        services, link = self._services, self._services.link(number)
        # Without Redis, or without a connection for copies, this dispatcher does not consume. One that has both
        # takes the partition meanwhile.
        if not (services.publisher.is_connected and link.is_connected):
            self._refusals.drop(number)  # from here on, it does not wait for RabbitMQ
        publisher = await unless(stop, services.publisher.wait_connected())
        wire = await unless(stop, link.wire())
        if wire is None or publisher is None:
            return prefetch
        with self._noting_refusals(number):
            channel = await amqp.channel(prefetch=prefetch)
        try:
            session = self._new_session(channel, wire, publisher.lost, number, prefetch)
            with self._noting_refusals(number):
                # Declared here, so that a refused queue stops no other partition, and a deleted one is made again.
                await channel.declare(build_partition(number))
                await channel.consume(
                    ingress_queue(number),
                    session.receive,
                    no_ack=False,
                    priority=consumer_priority(services.settings.pod_name, number),
                    timeout_s=services.settings.consumer_timeout_s,
                )
            self._set_consuming(number, session)
            try:
                await _run_until_broken(session, {"RabbitMQ": channel.lost}, stop)
            except HeldTooLong:
                await self._give_back(number, session)
            if session.wanted_prefetch is None:
                return prefetch
            services.partition.metrics.restarts.inc()
            return session.wanted_prefetch
        finally:
            self._set_consuming(number, None)
            await channel.close()

    async def _give_back(self, number: int, session: PartitionSession) -> None:
        """Acknowledge what need not go back to RabbitMQ when the channel is closed, and count the rest."""
        given_back = await session.give_back()
        self._services.partition.metrics.given_back.inc(given_back)
        _log.warning(
            "messages could not be delivered for long; they go back to RabbitMQ in order, and are tried again",
            extra={"partition": number, "messages": given_back},
        )

    @contextmanager
    def _noting_refusals(self, number: int) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self._refusals.refused(number, str(error), asyncio.get_running_loop().time())
            raise

    def _new_session(
        self, channel: AmqpChannel, wire: HeldWire, copies_lost: asyncio.Future[str], number: int, prefetch: int
    ) -> PartitionSession:
        services = self._services
        retention = services.settings.retention

        def open_log(wire: HeldWire, fence: Fence) -> UserLog:
            return UserLog(wire, services.keys, retention, fence, backoff=services.new_backoff())

        logs = FencedLogs(
            number,
            services.keys,
            services.link(number),
            open_log,
            services.barrier.request,
            # What stands declared already: the broker's answer shows that the channel does too.
            prove_channel=lambda: channel.declare(build_partition(number)),
            backoff=services.new_backoff(),
            first_wire=wire,
        )
        return PartitionSession(
            channel,
            logs,
            services.partition,
            copies_lost=copies_lost,
            number=number,
            prefetch=prefetch,
        )

    def _report_reset(self, number: int, reason: str) -> None:
        """Log each reason once, for whichever partition has it first, until all partitions work again."""
        if reason not in self._reported:
            self._reported.add(reason)
            _log.warning(
                "partitions start again, and their messages come back", extra={"first": number, "reason": reason}
            )

    def _set_consuming(self, number: int, session: PartitionSession | None) -> None:
        """Note which session consumes a partition, if any does."""
        if session is not None:
            self._sessions[number] = session
            self._refusals.drop(number)
        else:
            self._sessions.pop(number, None)
        if len(self._sessions) == INGRESS_PARTITIONS:
            self._reported.clear()
        self._services.partition.metrics.partitions.set(len(self._sessions))


async def _raise_when_lost(amqp: AmqpConnection) -> None:
    raise Unavailable(f"RabbitMQ: {await asyncio.shield(amqp.lost)}")


async def _run_until_broken(
    session: PartitionSession, lost: Mapping[str, asyncio.Future[str]], stop: asyncio.Event
) -> None:
    """Run a session; after `stop`, let it finish. Raise Unavailable when it breaks, or when a connection is lost.

    Raise HeldTooLong when it has held a message for too long.
    """
    running = asyncio.create_task(session.run())
    stopping = asyncio.create_task(stop.wait())
    held_too_long = asyncio.create_task(session.wait_held_too_long())
    ends: tuple[asyncio.Future[Any], ...] = (running, held_too_long, *lost.values())
    try:
        await asyncio.wait([*ends, stopping], return_when=asyncio.FIRST_COMPLETED)
        session.finish()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=DRAIN_TIMEOUT_S)
        for name, each in lost.items():
            if each.done():
                raise Unavailable(f"{name}: {each.result()}")
        if held_too_long.done() and not running.done():
            raise HeldTooLong
        if not running.done():
            raise Unavailable(f"unfinished after {DRAIN_TIMEOUT_S:g} s")
        error = running.exception()
        if error is not None:
            raise first_error(error)
    finally:
        await cancel(running, held_too_long, stopping)
