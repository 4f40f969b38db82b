"""Redis: the client, the Lua scripts, and which of its errors only time can mend.

RESP 2 on purpose: its replies have the same shape from every Redis that offers it, replies of scripts do not change
with the protocol, and nothing here uses the push messages of RESP 3.

No command is ever repeated in here, but a script that Redis did not know (it did nothing then). Whether any other
repeat is harmless is known to the caller alone.
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
"""The longest that Redis may be silent while a reply is due; longer than the longest WAITAOF of the dispatcher."""
MAX_CONNECTIONS: Final = 16
"""Of one client; whoever finds all of them busy waits, at most REPLY_TIMEOUT_S."""

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
"""What the server's state or its administrator can mend; the command itself is not at fault. redis-py takes the code
off the text of errors that it knows and gives them a class; others come with it."""

Argument = str | bytes | int

SOURCES: Final = {script: script.source() for script in Script}
DIGESTS: Final = {script: sha1(source.encode()).hexdigest() for script, source in SOURCES.items()}  # noqa: S324


@dataclass(frozen=True, slots=True)
class Call:
    """Keys and arguments of one script call, as the script's header names them."""

    keys: Sequence[str]
    args: Sequence[Argument]


def connect(url: str, *, name: str, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Return a client of `redis://[user][:password@]host:port/db` (or `rediss://`); it connects at its first command.

    Replies are bytes: bodies are opaque. `name` is what CLIENT LIST shows. Raises InvalidInput for another kind of URL.
    Its commands raise TooOld while the server is older than `pushcluster_contract.versions` asks for.
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
    """Return what INFO server says. Raises TooOld when this is no Redis that the scripts run on."""
    info = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
    REDIS.require(info.get("redis_version", ""))
    return info


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis's errors that time can mend into Unavailable; others pass as they are.

    A cancellation that arrives inside ends the block with CancelledError in any case: redis-py writes with
    `asyncio.wait_for`, which before Python 3.12 drops one that comes in the tick in which the write ends.
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
    """Return Unavailable for what time can mend (down, loading, full, read-only), else the error itself."""
    if isinstance(error, _UNAVAILABLE) or str(error).startswith(_UNAVAILABLE_CODES):
        return Unavailable(f"Redis: {str(error) or type(error).__name__}")
    return error


class ScriptRunner:
    """Runs the contract's Lua scripts by their digest.

    Every new connection has loaded all of them before its first command (`connect`), so a restarted Redis cannot run
    the second half of a pipeline whose first half it did not know. What remains is SCRIPT FLUSH: the calls that Redis
    did not know are loaded and run again.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run one call and return its reply. Raises Unavailable, or the script's own ResponseError."""
        (reply,) = await self.run_many(script, [Call(keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Run calls in one round trip, in order; the caller bounds their number.

        Returns their replies; a call that failed has its error (Unavailable or ResponseError) in its place. Raises
        Unavailable when the connection failed: then nobody knows which of them ran.
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
        # Before the scripts: an old server does not understand them, and would be blamed for a wrong thing.
        parse_server_info(await connection.read_response())
    except TooOld:
        await connection.disconnect()
        raise
    for source in SOURCES.values():
        await connection.send_command("SCRIPT", "LOAD", source)
        await connection.read_response()
