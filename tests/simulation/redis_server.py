"""A model of a Redis process around `keyspace`: fsync, crashes, standing still, and what arrives late."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pushcluster_contract.errors import Unavailable
from tests.simulation.keyspace import Keyspace
from tests.simulation.loop import Owner
from tests.simulation.redis_requests import Connection, Pipeline, Request, Synced

FSYNC_S: Final = 0.001
EVERYSEC_S: Final = 1.0
REPLY_TIMEOUT_S: Final = 3.0
BROKEN_AFTER_S: Final = 0.006
"""At most this long after something was sent, its connection breaks: before or after it has arrived."""
LATE_GAP_S: Final = 0.3
"""At most this long after its first part, the second part of a pipeline is read."""


class Server:
    """One Redis and everybody's connections to it."""

    def __init__(self, world: Any, *, always: bool) -> None:
        self.keyspace = Keyspace(clock_s=world.loop.time)
        self.run_id = "life1"
        self.up = True
        self.ahead_ms = 0
        """By how much somebody has set its clock forward."""
        self.clock_went_back = False
        self.lossless = True
        """Whether everything that it was told is there, or went by its own rules."""
        self._world = world
        self._always = always
        self._life = 1
        self._waiting: list[tuple[Request, Any, int]] = []
        """Replies that wait for an fsync."""
        self._connections: list[Connection] = []
        self._pending: dict[asyncio.Future[Any], Request] = {}
        self._sync_planned = False
        self._held: list[Request] | None = None
        """While it stands still: what has arrived. None while it runs."""
        self._breaks: dict[Owner, tuple[float, float, float]] = {}
        """By program: its connections break with what it sends until then; how late how much of that arrives."""
        self._when_appending: dict[Owner, Callable[[], None]] = {}
        if not always:
            world.loop.call_later(EVERYSEC_S, self._sync_each_second)

    @property
    def now_ms(self) -> int:
        return int(self._world.now_ms) + self.ahead_ms

    @property
    def stands_still(self) -> bool:
        return self._held is not None

    def request(
        self,
        owner: Owner,
        work: Callable[[], Any],
        *,
        arrives: float | None = None,
        connection: Connection | None = None,
    ) -> asyncio.Future[Any]:
        """Send something; the future has the reply, or Unavailable when nobody knows whether it ran."""
        world = self._world
        loop = world.loop
        reply: asyncio.Future[Any] = loop.create_future()
        if owner.dead:
            reply.cancel()
            return reply
        if not self.up:
            loop.call_later(world.latency(), _fail, reply, "connection refused")
            return reply
        request = self._pending[reply] = Request(
            reply, owner, work, connection, self._life, world.broker.ingress.term_of(owner)
        )
        heals = world.cut_until(owner, "redis")
        now = loop.time()
        arrives = max(arrives or now + world.latency(), heals)
        if heals > now + REPLY_TIMEOUT_S or self._held is not None:
            loop.run_as(owner, loop.call_later, REPLY_TIMEOUT_S, self._give_up, reply)
        loop.run_as(world.owner, loop.call_at, arrives, self._arrive, request)
        if self._breaks and owner in self._breaks:
            until_s, *how = self._breaks.pop(owner)
            if now < until_s:
                loop.run_as(world.owner, loop.call_later, world.random() * BROKEN_AFTER_S, self._break_all, owner, *how)
        if owner in self._when_appending and isinstance(work, Pipeline) and work.appends:
            loop.run_as(world.owner, self._when_appending.pop(owner))
        return reply

    # What goes wrong

    def crash(self, lose: float, down_s: float) -> None:
        """`kill -9`: of what no fsync has covered, this share is lost. It is up again after `down_s`."""
        if not self.up:
            return
        self.up = False
        lost = 0 if self.clock_went_back else round(self.keyspace.unsynced * lose)
        self._world.trace("redis crashes, loses {} commands", lost)
        self.lossless = self.lossless and not lost
        self.keyspace.lose(lost)
        self.keyspace.synced(self.keyspace.unsynced)
        self._life += 1
        self.run_id = f"life{self._life}"
        self._waiting.clear()
        self._held = None
        for request in list(self._pending.values()):
            self._tell(request.owner, self._give_up, request.reply)
        for connection in list(self._connections):
            self._tell(connection.owner, connection.break_, "redis crashed")
        self._world.loop.call_later(down_s, self._start)

    def flush(self) -> None:
        """FLUSHALL by somebody's hand."""
        if self.clock_went_back:
            return  # see `step_clock`
        self._world.trace("redis is emptied")
        self.lossless = False
        self.keyspace.wipe()

    def pause(self, for_s: float) -> None:
        """Stand still. What has come meanwhile is run then, also where a program has given its connection up since."""
        if not self.up or self._held is not None:
            return
        self._world.trace("redis stands still for {:.2f} s", for_s)
        loop = self._world.loop
        self._held = []
        for request in list(self._pending.values()):
            loop.run_as(request.owner, loop.call_later, REPLY_TIMEOUT_S, self._give_up, request.reply)
        loop.call_later(for_s, self._resume, self._life)

    def step_clock(self, by_ms: int) -> None:
        """Somebody, or NTP, sets its node's clock.

        Where the clock goes back and a log begins anew, ids come again that clients know of the log before. No schedule
        does both: the judge orders by id.
        """
        if by_ms < 0 and not self.lossless:
            return
        self._world.trace("redis TIME steps by {} ms", by_ms)
        self.ahead_ms += by_ms
        self.clock_went_back = self.clock_went_back or by_ms < 0

    def delay_unsent(self, owner: Owner, until_s: float) -> None:
        """What a program that stands still has not handed to its kernel yet is sent once it runs again."""
        for request in self._pending.values():
            if request.owner is owner and not request.arrived:
                request.late_s = until_s - self._world.loop.time()

    def when_appending(self, owner: Owner, call: Callable[[], None]) -> None:
        """Call once the next append of a program is under way."""
        self._when_appending[owner] = call

    def break_next(self, owner: Owner, late_s: float, share: float, *, until_s: float) -> None:
        """Break a program's connections with the next thing that it sends; this share of it arrives, and so late."""
        self._breaks[owner] = until_s, late_s, share

    def _break_all(self, owner: Owner, late_s: float, share: float) -> None:
        """Break a program's connections. What is under way arrives late, and only this share of it."""
        if owner.dead:
            return
        self._world.trace("{} loses its connections to redis; {:.0%} arrives {:.2f} s later", owner.name, share, late_s)
        for request in [each for each in self._pending.values() if each.owner is owner]:
            if not request.arrived:
                request.late_s, request.share = late_s, share
            self._tell(owner, self._give_up, request.reply)
        for connection in [each for each in self._connections if each.owner is owner]:
            self._tell(owner, connection.break_, "connection reset")

    # Connections

    def add_connection(self, connection: Connection) -> None:
        self._connections.append(connection)

    def drop_connection(self, connection: Connection) -> None:
        """The program has closed it: whoever waits for a reply over it gets none."""
        if connection in self._connections:
            self._connections.remove(connection)
        for request in [each for each in self._pending.values() if each.connection is connection]:
            self._give_up(request.reply)

    def _tell(self, owner: Owner, call: Callable[..., None], *args: Any) -> None:
        """Tell a program something, now or once it runs again."""
        if owner.backlog is None:
            call(*args)
        else:
            self._world.loop.run_as(owner, self._world.loop.call_soon, call, *args)

    # The process

    def _start(self) -> None:
        self.up = True
        self._world.trace("redis is up")

    def _resume(self, life: int) -> None:
        if life != self._life or self._held is None:
            return
        self._world.trace("redis goes on, with {} requests", len(self._held))
        held, self._held = self._held, None
        starts: dict[Connection | Request, float] = {}
        for request in held:
            by = request.connection or request
            if by not in starts:
                # It reads one connection after the other, a part of a long pipeline at a time.
                starts[by] = self._world.random() * self._world.random() * LATE_GAP_S
            self._run_late(request, starts[by])
        self._plan_sync_if_due()

    def _run_late(self, request: Request, in_s: float) -> None:
        """Run a request in two parts; other connections' requests may come between them."""
        loop, gap_s = self._world.loop, self._world.random() * LATE_GAP_S
        at = loop.time() + in_s
        if request.connection is not None:
            at = max(at, request.connection.last_arrival)
            request.connection.last_arrival = at + gap_s
        request.arrived = True
        loop.call_at(at, self._run_part, request, self._world.random())
        loop.call_at(at + gap_s, self._run_rest, request)

    def _run_part(self, request: Request, share: float) -> None:
        if request.life == self._life and self.up and self._held is None and isinstance(request.work, Pipeline):
            self.keyspace.expire(self.now_ms)
            self.keyspace.term = request.term
            request.work.run_up_to(min(share, request.share))

    def _run_rest(self, request: Request) -> None:
        if request.life != self._life or not self.up:
            return
        if self._held is not None:
            self._held.append(request)
        elif request.share < 1.0:
            self._run_part(request, request.share)  # the rest has never arrived
        else:
            self._run(request)

    def _arrive(self, request: Request) -> None:
        if request.life != self._life or not self.up:
            return
        if request.late_s:
            late_s, request.late_s = request.late_s, 0.0
            self._run_late(request, late_s)
        elif self._held is not None:
            request.arrived = True
            self._held.append(request)
        else:
            request.arrived = True
            self._run(request)

    def _run(self, request: Request) -> None:
        self.keyspace.expire(self.now_ms)
        self.keyspace.term = request.term
        result = request.work()
        if isinstance(result, Synced):
            self._wait_synced(request, result.value)
        elif self._always and self.keyspace.unsynced:
            self._wait_synced(request, result)
        else:
            self._answer(request, result)

    def _answer(self, request: Request, value: Any) -> None:
        if not request.reply.done():
            world = self._world
            loop = world.loop
            heals = world.cut_until(request.owner, "redis")
            at = max(loop.time() + world.latency(), heals)
            loop.run_as(request.owner, loop.call_at, at, self._deliver, request.reply, value)

    def _deliver(self, reply: asyncio.Future[Any], value: Any) -> None:
        if self._pending.pop(reply, None) is not None and not reply.done():
            reply.set_result(value)

    def _give_up(self, reply: asyncio.Future[Any]) -> None:
        if self._pending.pop(reply, None) is not None:
            _fail(reply, "no reply")

    # The disk

    def _wait_synced(self, request: Request, value: Any) -> None:
        """Answer once everything that has run by now is on disk."""
        self._waiting.append((request, value, self.keyspace.unsynced))
        self._plan_sync_if_due()

    def _plan_sync_if_due(self) -> None:
        if self._waiting and self._always and not self._sync_planned and self._held is None:
            self._sync_planned = True
            self._world.loop.call_later(FSYNC_S, self._sync, self.keyspace.unsynced, self._life)

    def _sync(self, commands: int, life: int) -> None:
        self._sync_planned = False
        if life != self._life or self._held is not None:
            return
        self.keyspace.synced(commands)
        waiting, self._waiting = self._waiting, []
        for request, value, needs in waiting:
            if needs <= commands:
                self._answer(request, value)
            else:
                self._waiting.append((request, value, needs - commands))
        self._plan_sync_if_due()

    def _sync_each_second(self) -> None:
        if self.up:
            self._sync(self.keyspace.unsynced, self._life)
        self._world.loop.call_later(EVERYSEC_S, self._sync_each_second)


def _fail(reply: asyncio.Future[Any], reason: str) -> None:
    if not reply.done():
        reply.set_exception(Unavailable(f"Redis: {reason}"))
        reply.exception()
