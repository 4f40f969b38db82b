"""Redis: the client, the Lua scripts, and which of its errors pass with time.

It uses RESP 2. Every Redis answers in the same form with it, replies of scripts do not depend on the protocol, and
nothing here needs the push messages of RESP 3.

Nothing here repeats a command, except a script that Redis did not know, which therefore did nothing. Only the caller
knows whether any other repeat is harmless.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ExecAbortError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pushcluster_contract.errors import InvalidInput, TooOld, Unavailable
from pushcluster_contract.required_versions import REDIS
from pushcluster_contract.scripts import Script

CONNECT_TIMEOUT_S: Final = 2.0
REPLY_TIMEOUT_S: Final = 5.0
"""How long Redis may be silent while a reply is due. It is longer than the dispatcher's longest WAITAOF."""
MAX_CONNECTIONS: Final = 16
"""Of one client. If all are busy, the next command waits for one, at most REPLY_TIMEOUT_S."""

_UNAVAILABLE: Final = (
    RedisConnectionError,  # LOADING and the authentication errors are among these
    RedisTimeoutError,
    AskError,  # MOVED is one of these
    ClusterDownError,  # MASTERDOWN is one of these
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_UNAVAILABLE_CODES: Final = (
    "ASK ",
    "BUSY",
    "CLUSTERDOWN",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "WRONGPASS",
)
"""Errors that pass with the server's state, or that its administrator can fix: the command itself is right. redis-py
turns the codes that it knows into classes and removes them from the text. Other errors keep their code."""

Argument = str | bytes | int

SOURCES: Final = {script: script.source() for script in Script}
DIGESTS: Final = {script: sha1(source.encode()).hexdigest() for script, source in SOURCES.items()}  # noqa: S324


@dataclass(frozen=True, slots=True)
class Call:
    """Keys and arguments of one script call, as the script's header names them."""

    keys: Sequence[str]
    args: Sequence[Argument]


def connect(url: str, *, name: str, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Return a client of `redis://[user][:password@]host:port/db` (or `rediss://`). Its first command connects.

    Raise InvalidInput for another kind of URL. Commands raise TooOld while the server is older than
    `pushcluster_contract.required_versions` allows. Replies are bytes, because bodies are opaque. CLIENT LIST shows
    `name`.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            client_name=name,
            max_connections=max_connections,
            timeout=REPLY_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_prepare_connection,
        )
    except ValueError:
        raise InvalidInput("the Redis URL is not redis://:password@host:port/db") from None
    return Redis.from_pool(pool)


def parse_server_info(reply: bytes) -> dict[str, str]:
    """Return the fields of INFO server. Raise TooOld if the scripts do not run on this Redis."""
    info = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
    REDIS.require(info.get("redis_version", ""))
    return info


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis's errors that pass with time into Unavailable. Other errors stay as they are.

    A cancellation inside always ends the block with CancelledError. redis-py writes with `asyncio.wait_for`, which
    before Python 3.12 drops a cancellation that comes in the tick in which the write ends.
    """
    asked_before = _cancellations_asked()
    try:
        yield
    except RedisError as error:
        _end_if_cancelled(since=asked_before)
        translation = translate(error)
        if translation is error:
            raise
        raise translation from error
    _end_if_cancelled(since=asked_before)


def _cancellations_asked() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _end_if_cancelled(*, since: int) -> None:
    if _cancellations_asked() > since:
        raise asyncio.CancelledError


def translate(error: RedisError) -> Exception:
    """Return Unavailable for what passes with time (down, loading, full, read-only). Else return the error itself."""
    if isinstance(error, _UNAVAILABLE) or str(error).startswith(_UNAVAILABLE_CODES):
        return Unavailable(f"Redis: {str(error) or type(error).__name__}")
    return error


class ScriptRunner:
    """Runs the contract's Lua scripts by their digest.

    Every new connection loads all scripts before its first command (`connect`). So a restarted Redis cannot run the
    second half of a pipeline after it did not know the first half. After a SCRIPT FLUSH, calls that Redis did not know
    are loaded and run again.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run one call and return its reply. Raise Unavailable, or the script's own ResponseError."""
        (reply,) = await self.run_many(script, [Call(keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Run calls in one round trip, in order, and return their replies. The caller bounds their number.

        A call that failed has its error (Unavailable or ResponseError) as its reply. Raise Unavailable if the
        connection failed: nobody then knows which of the calls ran.
        """
        replies = await self._run_once(script, calls)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            with translated():
                await self._client.script_load(SOURCES[script])
            for n, reply in zip(unknown, await self._run_once(script, [calls[n] for n in unknown]), strict=True):
                replies[n] = reply
        return [translate(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def _run_once(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        digest = DIGESTS[script]
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command("EVALSHA", digest, len(call.keys), *call.keys, *call.args)
            with translated():
                return list(await pipeline.execute(raise_on_error=False))


async def _prepare_connection(connection: Connection) -> None:
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    try:
        # Before the scripts: an old server does not understand them, and its error would name a wrong reason.
        parse_server_info(await connection.read_response())
    except TooOld:
        await connection.disconnect()
        raise
    for source in SOURCES.values():
        await connection.send_command("SCRIPT", "LOAD", source)
        await connection.read_response()
