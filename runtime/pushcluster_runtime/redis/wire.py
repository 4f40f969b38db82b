"""One Redis connection for hot paths. It sends each pipelined batch in one write, and never reconnects.

`redis-py` needs about six times the processor time for the same pipeline (20,000 against 120,000 APPEND calls per
CPU-second). It also hides which connection, and so which run of the server, a reply came from. A dispatcher has to know
that before it acknowledges: after a restart, Redis may have lost what it had answered before.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any, Final, Self, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import NoScriptError, RedisError, ResponseError

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_runtime.redis.client import (
    CONNECT_TIMEOUT_S,
    REPLY_TIMEOUT_S,
    SOURCES,
    Argument,
    parse_server_info,
    translate,
)

SILENCE_CHECKS: Final = 10
"""How many checks divide the time that Redis may be silent. After as many without a byte, the connection is closed."""

_pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)

Reply = Any
"""bytes, int, None, a list of replies, or an error: Unavailable or redis's ResponseError."""


def pack(*arguments: Argument) -> bytes:
    """Return one command, encoded in RESP."""
    return _pack(arguments)


def pack_bulk(argument: bytes) -> bytes:
    """Return one argument of a command, encoded as a bulk string of RESP."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


class RedisWire(asyncio.Protocol):
    """One connection. `connect` makes it. The caller bounds what it sends before it has the replies."""

    lost: asyncio.Future[str]
    """Resolves with the reason when the connection ends."""
    run_id: str
    """Which run of the server this is. A restarted Redis has another run id."""

    def __init__(self, silence_s: float = REPLY_TIMEOUT_S) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self.run_id = ""
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(protocolError=ResponseError, replyError=_parse_error)
        self._batches: deque[tuple[int, asyncio.Future[list[Reply]]]] = deque()
        self._replies: list[Reply] = []
        self._check_every_s = silence_s / SILENCE_CHECKS
        self._silence_s = silence_s
        self._quiet_checks = 0
        self._checking: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(cls, url: str, *, name: str, silence_s: float = REPLY_TIMEOUT_S) -> Self:
        """Open a connection, authenticate, load the scripts, and read the server's run id.

        Raise Unavailable (of which TooOld is a subclass), or InvalidInput for a wrong URL.

        The connection is closed if replies are due and not one byte has come for `silence_s`. How long a single reply
        takes does not count: on a slow disk, Redis answers a long pipeline steadily, and its end late.
        """
        try:
            options: dict[str, Any] = {**parse_url(url)}
        except ValueError:
            raise InvalidInput("the Redis URL is not redis[s]://:password@host:port/db") from None
        tls = _build_tls(options)
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                _, wire = await loop.create_connection(lambda: cls(silence_s), host, port, ssl=tls)
        except TimeoutError:
            raise Unavailable(f"Redis: no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise Unavailable(f"Redis: {error}") from error
        try:
            await wire._greet(options, name)
        except BaseException:
            wire.close()
            raise
        return wire

    async def execute(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send packed commands in one write, and return their replies. The reply of a failed command is its error.

        Raise Unavailable if the connection is lost. What was sent may have run.
        """
        if self._transport is None or self.lost.done():
            raise Unavailable(f"Redis: {self.lost.result() if self.lost.done() else 'not connected'}")
        replies: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._batches:
            self._quiet_checks = 0
        self._batches.append((len(commands), replies))
        self._transport.write(b"".join(commands))
        if self._checking is None:
            self._checking = self._loop.call_later(self._check_every_s, self._check_silence)
        return await replies

    def close(self) -> None:
        """Close now. Callers that wait get Unavailable."""
        self._give_up("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: give the replies to the batches that wait for them."""
        self._quiet_checks = 0
        self._reader.feed(data)
        try:
            while self._batches and (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
                count, waiting = self._batches[0]
                if len(self._replies) == count:
                    self._batches.popleft()
                    replies, self._replies = self._replies, []
                    if not waiting.done():
                        waiting.set_result(replies)
        except RedisError as error:
            self._give_up(f"the answer is not in the Redis protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._give_up(str(exc) if exc else "closed by the server")

    def _check_silence(self) -> None:
        self._checking = None
        if not self._batches:
            return
        self._quiet_checks += 1
        if self._quiet_checks >= SILENCE_CHECKS:
            self._give_up(f"no reply within {self._silence_s:g} s")
        else:
            self._checking = self._loop.call_later(self._check_every_s, self._check_silence)

    def _give_up(self, reason: str) -> None:
        if self.lost.done():
            return
        if self._checking is not None:
            self._checking.cancel()
        self.lost.set_result(reason)
        for _, waiting in self._batches:
            if not waiting.done():
                waiting.set_exception(Unavailable(f"Redis: {reason}"))
                waiting.exception()  # marks it as seen: its caller may have been cancelled
        self._batches.clear()
        if self._transport is not None:
            self._transport.abort()

    async def _greet(self, options: Any, name: str) -> None:
        commands = []
        if "password" in options:
            user = [options["username"]] if "username" in options else []
            commands.append(pack("AUTH", *user, options["password"]))
        if "db" in options:
            commands.append(pack("SELECT", options["db"]))
        commands.append(pack("CLIENT", "SETNAME", name))
        # Before the scripts: an old server does not understand them, and its error would name a wrong reason.
        commands.append(pack("INFO", "server"))
        greeted = len(commands)
        commands += [pack("SCRIPT", "LOAD", source) for source in SOURCES.values()]
        replies = await self.execute(commands)
        _raise_first(replies[:greeted])
        self.run_id = parse_server_info(replies[greeted - 1])["run_id"]
        _raise_first(replies[greeted:])


def _build_tls(options: dict[str, Any]) -> SSLContext | None:
    """Take the kind of connection out of a URL's options, and return its TLS context; None without TLS."""
    kind = options.pop("connection_class", None)
    if kind is None:
        return None
    if kind is not SSLConnection:
        raise InvalidInput("the Redis URL must begin with redis:// or rediss://")
    try:
        return SSLConnection(**options).ssl_context.get()
    except (TypeError, OSError, RedisError) as error:
        raise InvalidInput(f"the options of the Redis URL cannot be used: {error}") from None


def _raise_first(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply if isinstance(reply, Unavailable) else Unavailable(f"Redis: {reply}")


def _parse_error(text: str) -> Exception:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else translate(ResponseError(text))
