"""AMQP 0-9-1 over pika's callback client, as coroutines and futures.

Nothing here reconnects. When a connection or a channel is lost, everything that waits for it fails with `Unavailable`,
and its `lost` future resolves with the reason. The caller then makes a new one.

Nothing here bounds publishes in flight, and pika buffers without limit. So whoever publishes must bound them, as the
dispatcher's copies and its HTTP API do.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Self

import pika
from pika.exceptions import AMQPError

from pushcluster_contract.errors import InvalidInput, TooOld, Unavailable
from pushcluster_contract.required_versions import RABBITMQ
from pushcluster_contract.topology import Topology
from pushcluster_runtime.amqp.channel import (
    ANSWER_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    AmqpChannel,
    settle,
)
from pushcluster_runtime.amqp.errors import describe, translate, unavailable
from pushcluster_runtime.amqp.pika_connection import PikaConnection

SILENCE_CHECK_S: Final = 1.0
"""How often the connection checks whether the broker still answers."""

_SCHEMES: Final = ("amqp://", "amqps://")

_log = logging.getLogger(__name__)


class AmqpConnection:
    """One connection. `connect` makes it."""

    lost: asyncio.Future[str]
    """Resolves with the reason when the connection ends, whoever closed it."""
    on_blocked: Callable[[bool], None]
    """Called with True when the broker stops reading from this connection, and with False when it reads again."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._connection: PikaConnection | None = None
        self._channels: set[AmqpChannel] = set()
        self.on_blocked = lambda _: None
        self._blocked = False

    @classmethod
    async def connect(cls, url: str, *, name: str, heartbeat_s: int = 10, timeout_s: float = 10) -> Self:
        """Open a connection that the broker's tools show as `name`.

        Raise Unavailable (nobody listens, refused, too slow), TooOld, or InvalidInput (not an AMQP URL).
        """
        parameters = _parse_url(url, name=name, heartbeat_s=heartbeat_s, timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        amqp = cls()
        connection = PikaConnection(
            parameters,
            # pika fails an assertion if a connection is closed while it opens. If nobody waits any more, close it now.
            on_open_callback=lambda raw: raw.close() if opened.done() else opened.set_result(None),
            on_open_error_callback=lambda _, error: settle(opened, unavailable(describe(error))),
            on_close_callback=lambda _, error: amqp._on_closed(error),
            loop=loop,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await opened
        except TimeoutError:
            raise Unavailable(f"RabbitMQ did not open the connection within {timeout_s:g} s") from None
        try:
            RABBITMQ.require(str((connection.server_properties or {}).get("version", "")))
        except TooOld:
            connection.close()
            raise
        connection.add_on_connection_blocked_callback(lambda *_: amqp._set_blocked(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: amqp._set_blocked(blocked=False))
        amqp._connection = connection
        amqp._check_silence()
        return amqp

    @property
    def blocked(self) -> bool:
        """Whether the broker has stopped reading publishes (memory or disk alarm)."""
        return self._blocked

    async def channel(self, *, confirm: bool = False, prefetch: int = 0) -> "AmqpChannel":
        """Open a channel with at most `prefetch` unacknowledged messages (0: no limit). Raise Unavailable.

        `confirm` puts it into confirm mode.
        """
        connection = self._connection
        if connection is None or self.lost.done():
            raise unavailable(self.lost.result() if self.lost.done() else "not connected")
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            raw = connection.channel(on_open_callback=lambda _: settle(opened, None))
        except AMQPError as error:
            raise translate(error) from error
        channel = AmqpChannel(raw)
        self._channels.add(channel)
        channel.lost.add_done_callback(lambda _: self._channels.discard(channel))
        channel.lost.add_done_callback(lambda lost: settle(opened, unavailable(lost.result())))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await opened
            await channel.prepare(confirm=confirm, prefetch=prefetch)
        except TimeoutError:
            connection.abort(f"no answer within {ANSWER_TIMEOUT_S:g} s")
            raise unavailable(f"no answer within {ANSWER_TIMEOUT_S:g} s") from None
        except asyncio.CancelledError:
            channel.abandon()
            raise
        return channel

    async def declare(self, parts: Iterable[Topology]) -> list[str]:
        """Declare all parts that the broker accepts. Return its reasons for those that it refused.

        Raise Unavailable if the connection is lost. A refusal closes the channel, so each part has its own.
        """
        refused = []
        for part in parts:
            channel = await self.channel()
            try:
                await channel.declare(part)
            except Unavailable as error:
                if self.lost.done():
                    raise
                refused.append(str(error))
            finally:
                channel.abandon()
        return refused

    async def close(self) -> None:
        """Close. Return after CLOSE_TIMEOUT_S even if the broker does not answer. To close twice is allowed."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)

    def _check_silence(self) -> None:
        """Cut the connection if the broker has not answered for too long. Otherwise check again in SILENCE_CHECK_S.

        A broker that is short of memory still sends heart-beats, so pika alone would wait for ever.
        """
        if self.lost.done() or self._connection is None:
            return
        now = self._loop.time()
        silence = next(filter(None, (each.find_silence(now, blocked=self._blocked) for each in self._channels)), "")
        if silence:
            self._connection.abort(silence)
        else:
            self._loop.call_later(SILENCE_CHECK_S, self._check_silence)

    def _set_blocked(self, *, blocked: bool) -> None:
        self._blocked = blocked
        if not blocked:
            for channel in self._channels:
                channel.unblocked(self._loop.time())
        self.on_blocked(blocked)
        _log.warning(
            "RabbitMQ blocks publishers; see its memory and disk alarms" if blocked else "RabbitMQ takes messages again"
        )

    def _on_closed(self, error: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_result(describe(error))


def _parse_url(url: str, *, name: str, heartbeat_s: int, timeout_s: float) -> pika.URLParameters:
    # No error quotes the URL, because it contains the password.
    wrong = InvalidInput("the AMQP URL is not amqp://user:password@host:port/vhost")
    if not url.startswith(_SCHEMES):
        raise wrong
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError):
        raise wrong from None
    parameters.heartbeat = heartbeat_s
    parameters.socket_timeout = timeout_s
    parameters.stack_timeout = timeout_s
    parameters.connection_attempts = 1
    parameters.client_properties = {"connection_name": name}
    return parameters
