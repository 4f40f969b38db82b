"""A model of Redis around `keyspace`: fsync, crashes, and connections that break."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.client import DIGESTS, Call
from tests.simulation.keyspace import Keyspace
from tests.simulation.loop import Owner

FSYNC_S: Final = 0.001
EVERYSEC_S: Final = 1.0
REPLY_TIMEOUT_S: Final = 3.0

_SCRIPTS: Final = {digest.encode(): script for script, digest in DIGESTS.items()}


class Server:
    """One Redis and everybody's connections to it."""

    def __init__(self, world: Any, *, always: bool) -> None:
        self.keyspace = Keyspace()
        self.run_id = "life1"
        self.up = True
        self.lossless = True
        """Whether everything that it was told is there, or went by its own rules."""
        self._world = world
        self._always = always
        self._life = 1
        self._waiting: list[tuple[asyncio.Future[Any], Any, int]] = []
        """Replies that wait for an fsync."""
        self._wires: list[Wire] = []
        self._pending: dict[asyncio.Future[Any], Owner] = {}
        self._sync_planned = False
        if not always:
            world.loop.call_later(EVERYSEC_S, self._sync_each_second)

    @property
    def now_ms(self) -> int:
        return int(self._world.now_ms)

    def request(self, owner: Owner, work: Callable[[], Any], *, arrives: float | None = None) -> asyncio.Future[Any]:
        """Send something; the future has the reply, or Unavailable when nobody knows whether it ran."""
        world = self._world
        reply: asyncio.Future[Any] = world.loop.create_future()
        if owner.dead:
            reply.cancel()
            return reply
        if not self.up:
            world.loop.call_later(world.latency(), _fail, reply, "connection refused")
            return reply
        self._pending[reply] = owner
        heals = world.cut_until(owner, "redis")
        now = world.loop.time()
        arrives = max(arrives or now + world.latency(), heals)
        if heals > now + REPLY_TIMEOUT_S:
            world.loop.call_later(REPLY_TIMEOUT_S, self._give_up, reply)
        world.loop.call_at(arrives, self._arrive, reply, work, self._life)
        return reply

    def wait_synced(self, reply: asyncio.Future[Any], value: Any) -> None:
        """Answer once everything that has run by now is on disk."""
        self._waiting.append((reply, value, self.keyspace.unsynced))
        if self._always:
            self._plan_sync()

    def crash(self, lose: float, down_s: float) -> None:
        """`kill -9`: of what no fsync has covered, this share is lost. It is up again after `down_s`."""
        if not self.up:
            return
        self.up = False
        lost = round(self.keyspace.unsynced * lose)
        self._world.trace("redis crashes, loses {} commands", lost)
        self.lossless = self.lossless and not lost
        self.keyspace.lose(lost)
        self.keyspace.synced(self.keyspace.unsynced)
        self._life += 1
        self.run_id = f"life{self._life}"
        self._waiting.clear()
        for reply in list(self._pending):
            self._give_up(reply)
        for wire in list(self._wires):
            wire.break_("redis crashed")
        self._world.loop.call_later(down_s, self._start)

    def flush(self) -> None:
        """FLUSHALL by somebody's hand."""
        self._world.trace("redis is emptied")
        self.lossless = False
        self.keyspace.wipe()

    def add_wire(self, wire: "Wire") -> None:
        self._wires.append(wire)

    def drop_wire(self, wire: "Wire") -> None:
        if wire in self._wires:
            self._wires.remove(wire)

    def _start(self) -> None:
        self.up = True
        self._world.trace("redis is up")

    def _arrive(self, reply: asyncio.Future[Any], work: Callable[[], Any], life: int) -> None:
        if life != self._life or not self.up:
            return
        self.keyspace.expire(self.now_ms)
        result = work()
        if isinstance(result, _Synced):
            self.wait_synced(reply, result.value)
        elif self._always and self.keyspace.unsynced:
            self.wait_synced(reply, result)
        else:
            self._answer(reply, result)

    def _answer(self, reply: asyncio.Future[Any], value: Any) -> None:
        if not reply.done():
            world = self._world
            heals = world.cut_until(self._pending[reply], "redis")
            world.loop.call_at(max(world.loop.time() + world.latency(), heals), self._deliver, reply, value)

    def _deliver(self, reply: asyncio.Future[Any], value: Any) -> None:
        if self._pending.pop(reply, None) is not None and not reply.done():
            reply.set_result(value)

    def _give_up(self, reply: asyncio.Future[Any]) -> None:
        if self._pending.pop(reply, None) is not None:
            _fail(reply, "no reply")

    def _plan_sync(self) -> None:
        if not self._sync_planned:
            self._sync_planned = True
            self._world.loop.call_later(FSYNC_S, self._sync, self.keyspace.unsynced, self._life)

    def _sync(self, commands: int, life: int) -> None:
        self._sync_planned = False
        if life != self._life:
            return
        self.keyspace.synced(commands)
        waiting, self._waiting = self._waiting, []
        for reply, value, needs in waiting:
            if needs <= commands:
                self._answer(reply, value)
            else:
                self._waiting.append((reply, value, needs - commands))
        if self._waiting and self._always:
            self._plan_sync()

    def _sync_each_second(self) -> None:
        if self.up:
            self._sync(self.keyspace.unsynced, self._life)
        self._world.loop.call_later(EVERYSEC_S, self._sync_each_second)


@dataclass(frozen=True, slots=True)
class _Synced:
    value: Any


def _fail(reply: asyncio.Future[Any], reason: str) -> None:
    if not reply.done():
        reply.set_exception(Unavailable(f"Redis: {reason}"))
        reply.exception()


class Wire:
    """Stands for `RedisWire`: a dispatcher's connection."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._server: Server = world.redis
        self._owner: Owner = world.loop.owner
        self._last_arrival = 0.0
        self.lost: asyncio.Future[str] = world.loop.create_future()
        self.run_id = ""

    @classmethod
    async def connect(cls, url: str, *, name: str) -> "Wire":
        wire = cls(asyncio.get_running_loop().world)  # type: ignore[attr-defined]
        server = wire._server
        wire.run_id = await server.request(wire._owner, lambda: server.run_id)
        if wire.run_id != server.run_id:
            raise Unavailable("Redis: gone again")
        server.add_wire(wire)
        return wire

    async def execute(self, commands: Sequence[bytes], *, timeout_s: float = 0) -> list[Any]:
        if self.lost.done():
            raise Unavailable(f"Redis: {self.lost.result()}")
        now = self._world.loop.time()
        self._last_arrival = max(self._last_arrival, now + self._world.latency())
        reply = self._server.request(self._owner, partial(self._run, commands), arrives=self._last_arrival)
        try:
            replies: list[Any] = await reply
        except Unavailable as error:
            self.break_(str(error))
            raise
        if self.lost.done():
            raise Unavailable(f"Redis: {self.lost.result()}")
        return replies

    def break_(self, reason: str) -> None:
        self._server.drop_wire(self)
        if not self.lost.done():
            self.lost.set_result(reason)

    def close(self) -> None:
        self.break_("closed")

    def _run(self, commands: Sequence[bytes]) -> Any:
        keyspace, now = self._server.keyspace, self._server.now_ms
        replies: list[Any] = []
        group: list[tuple[Script, list[str], list[bytes]]] | None = None
        synced = refused = False
        for packed in commands:
            name, *args = packed.split(b"\r\n")[2::2]
            if name == b"MULTI":
                group, refused = [], False
                replies.append(b"OK")
            elif name == b"EXEC":
                error = Unavailable("EXECABORT")
                replies.append(error if refused else [keyspace.run(*each, now) for each in group or ()])
                group = None
            elif name == b"WAITAOF":
                synced = True
                replies.append([1, 0])
            elif name == b"EVAL":
                replies.append(keyspace.run(Script.BARRIER, [args[2].decode()], [], now))
            elif name == b"PEXPIRE":
                replies.append(keyspace.command("pexpire", args[0].decode(), int(args[1]), now))
            elif self._world.redis_is_full():
                refused = True
                replies.append(Unavailable("OOM command not allowed"))
            else:
                count = int(args[1])
                call = _SCRIPTS[args[0]], [key.decode() for key in args[2 : 2 + count]], args[2 + count :]
                if group is None:
                    replies.append(keyspace.run(*call, now))
                else:
                    group.append(call)
                    replies.append(b"QUEUED")
        return _Synced(replies) if synced else replies


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

    async def zrem(self, key: str, member: str) -> int:
        return await self._command("zrem", key, member)  # type: ignore[no-any-return]

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

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        return await self._client.run_commands(self._commands)
