"""A model of a program's side of Redis: connections that stand for `RedisWire`, for redis-py and for `ScriptRunner`."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.client import DIGESTS, SOURCES, Call
from tests.simulation.redis_requests import Pipeline, Synced

if TYPE_CHECKING:
    from tests.simulation.loop import Owner
    from tests.simulation.redis_server import Server

_SCRIPTS: Final = {digest.encode(): script for script, digest in DIGESTS.items()}
_APPEND: Final = DIGESTS[Script.APPEND].encode()
_SOURCES: Final = {source.encode(): script for script, source in SOURCES.items()}


class Wire:
    """Stands for `RedisWire`: a dispatcher's connection."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._server: Server = world.redis
        self.owner: Owner = world.loop.owner
        self.last_arrival = 0.0
        self.lost: asyncio.Future[str] = world.loop.create_future()
        self.run_id = ""

    @classmethod
    async def connect(cls, url: str, *, name: str) -> "Wire":
        wire = cls(asyncio.get_running_loop().world)  # type: ignore[attr-defined]
        server = wire._server
        wire.run_id = await server.request(wire.owner, lambda: server.run_id)
        if wire.run_id != server.run_id:
            raise Unavailable("Redis: gone again")
        server.add_connection(wire)
        return wire

    async def execute(self, commands: Sequence[bytes], *, timeout_s: float = 0) -> list[Any]:
        if self.lost.done():
            raise Unavailable(f"Redis: {self.lost.result()}")
        now = self._world.loop.time()
        self.last_arrival = max(self.last_arrival, now + self._world.latency())
        work = _Commands(self._world, commands)
        reply = self._server.request(self.owner, work, arrives=self.last_arrival, connection=self)
        try:
            replies: list[Any] = await reply
        except Unavailable as error:
            self.break_(str(error))
            raise
        if self.lost.done():
            raise Unavailable(f"Redis: {self.lost.result()}")
        return replies

    def break_(self, reason: str) -> None:
        self._server.drop_connection(self)
        if not self.lost.done():
            self.lost.set_result(reason)

    def close(self) -> None:
        self.break_("closed")


class _Commands(Pipeline):
    """What one call of `execute` sends."""

    def __init__(self, world: Any, commands: Sequence[bytes]) -> None:
        self._world = world
        self._commands = commands
        self._done = 0
        self._replies: list[Any] = []
        self._group: list[tuple[Script, list[str], list[bytes]]] | None = None
        self._synced = self._refused = False

    @property
    def appends(self) -> bool:
        """See Pipeline."""
        return any(_APPEND in command for command in self._commands)

    def run_up_to(self, share: float) -> None:
        """See Pipeline."""
        self._run(int(len(self._commands) * share))

    def __call__(self) -> Any:
        """See Pipeline."""
        self._run(len(self._commands))
        return Synced(self._replies) if self._synced else self._replies

    def _run(self, end: int) -> None:
        redis: Server = self._world.redis
        keyspace, now = redis.keyspace, redis.now_ms
        replies = self._replies
        for packed in self._commands[self._done : end]:
            name, *args = packed.split(b"\r\n")[2::2]
            if name == b"MULTI":
                self._group, self._refused = [], False
                replies.append(b"OK")
            elif name == b"EXEC":
                error = Unavailable("EXECABORT")
                replies.append(error if self._refused else [keyspace.run(*each, now) for each in self._group or ()])
                self._group = None
            elif name == b"WAITAOF":
                self._synced = True
                replies.append([1, 0])
            elif name == b"EVAL":
                count = int(args[1])
                names = [key.decode() for key in args[2 : 2 + count]]
                replies.append(keyspace.run(_SOURCES[args[0]], names, args[2 + count :], now))
            elif name == b"PEXPIRE":
                replies.append(keyspace.command("pexpire", args[0].decode(), int(args[1]), now))
            elif self._world.redis_is_full():
                self._refused = True
                replies.append(Unavailable("OOM command not allowed"))
            else:
                count = int(args[1])
                call = _SCRIPTS[args[0]], [key.decode() for key in args[2 : 2 + count]], args[2 + count :]
                if self._group is None:
                    replies.append(keyspace.run(*call, now))
                else:
                    self._group.append(call)
                    replies.append(b"QUEUED")
        self._done = max(self._done, end)


class Client:
    """Stands for redis-py's client and for `ScriptRunner`, as far as a gateway and a clean-up use them."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._server: Server = world.redis
        self._owner: Owner = world.loop.owner

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        (reply,) = await self.run_many(script, [Call(keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        return await self._server.request(self._owner, partial(self._run, script, calls))  # type: ignore[no-any-return]

    async def srem(self, key: str, *members: str) -> int:
        return await self._command("srem", key, *members)  # type: ignore[no-any-return]

    async def srandmember(self, key: str, count: int) -> list[bytes]:
        return await self._command("srandmember", key, count)  # type: ignore[no-any-return]

    async def zrange(self, key: str, first: int, last: int) -> list[bytes]:
        return await self._command("zrange", key)  # type: ignore[no-any-return]

    async def hdel(self, key: str, *fields: str) -> int:
        return await self._command("hdel", key, *fields)  # type: ignore[no-any-return]

    async def zrem(self, key: str, member: str) -> int:
        return await self._command("zrem", key, member)  # type: ignore[no-any-return]

    async def hset(self, key: str, name: str, value: str) -> int:
        return await self._command("hset", key, name, value)  # type: ignore[no-any-return]

    async def xrange(self, key: str, low: str, high: str, count: int | None = None) -> list[Any]:
        return await self._command("xrange", key, low, high, count)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        return

    def pipeline(self, *, transaction: bool) -> "_Pipeline":
        return _Pipeline(self)

    async def run_commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return await self._server.request(self._owner, partial(lambda: [self._do(*each) for each in commands]))  # type: ignore[no-any-return]

    def _do(self, name: str, *args: Any) -> Any:
        if name == "info":
            return {"run_id": self._server.run_id, "redis_version": "8.0.0"}
        if name == "time":
            return divmod(self._server.now_ms * 1_000, 1_000_000)
        return self._server.keyspace.command(name, *args)

    async def _command(self, *command: Any) -> Any:
        return (await self.run_commands([command]))[0]

    def _run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        server = self._server
        return [server.keyspace.run(script, call.keys, call.args, server.now_ms) for call in calls]


class _Pipeline:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> "_Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def info(self, section: str) -> None:
        self._commands.append(("info",))

    def zcard(self, key: str) -> None:
        self._commands.append(("zcard", key))

    def time(self) -> None:
        self._commands.append(("time",))

    def hdel(self, key: str, *fields: str) -> None:
        self._commands.append(("hdel", key, *fields))

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        return await self._client.run_commands(self._commands)
