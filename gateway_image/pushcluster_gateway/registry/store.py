"""The registry and the logs in Redis, for one gateway. Calls of many clients are joined into few round trips.

Users are served in turn: one with many sessions and subscriptions does not keep the others waiting for all its calls.

Every method raises Unavailable when the same call may succeed later.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.keys import Keys, encode_member, parse_lease
from pushcluster_contract.limits import (
    LEASE_MS,
    MAX_TRIMMED_ENTRIES,
    META_EXTRA_TTL_MS,
    SESSIONS_TTL_MS,
)
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_gateway.registry.batcher import Batcher
from pushcluster_gateway.registry.lost_sessions import LostSession, parse_holders, plan_lost
from pushcluster_gateway.session.delivery import LogPage, LogState, ReadPage
from pushcluster_gateway.session.errors import TooManySessions
from pushcluster_runtime.redis.client import (
    Argument,
    Call,
    ScriptRunner,
    translated,
)
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation

_log = logging.getLogger(__name__)

MAX_BATCH: Final = 200
"""Calls in one pipeline."""
MAX_PAGES: Final = 16
"""Pages of the log in one pipeline. Redis and the gateway hold so many at once, of LOG_PAGE_BYTES each."""
MAX_LOST_SESSION_LOOKUPS: Final = 16
"""Users whose sessions are checked for lost gateways at once."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to a lease renewal."""

    existed: bool
    run_id: str
    gateways: int
    """Gateways with a lease, or with an expired one that was not removed yet. This gateway is included."""


@dataclass(frozen=True, slots=True)
class CursorMove:
    """How far a user's destination has been delivered."""

    user: str
    destination: Destination
    cursor: StreamId
    sent: StreamId


class SessionRegistry:
    """All calls to Redis of this gateway's incarnation."""

    def __init__(
        self,
        client: Redis,
        scripts: ScriptRunner,
        keys: Keys,
        incarnation: Incarnation,
        *,
        kept_delivered_ms: int,
        max_sessions_per_user: int,
        lost_gateway_ms: int,
    ) -> None:
        """`kept_delivered_ms` is how long a log entry stays after it was delivered.

        `lost_gateway_ms` is how long after the end of its lease a gateway's sessions may be removed.
        """
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._incarnation = incarnation
        self._kept_delivered_ms = kept_delivered_ms
        self._max_sessions = max_sessions_per_user
        self._lost_gateway_ms = lost_gateway_ms
        self._calls = {
            script: Batcher[Call](partial(scripts.run_many, script), max_batch=MAX_BATCH)
            for script in (
                Script.REGISTER,
                Script.SUBSCRIBE,
                Script.UNSUBSCRIBE,
                Script.REMOVE_SESSION,
                Script.ADVANCE_CURSOR,
            )
        }
        self._added_members = Batcher[str](self._add_members, max_batch=MAX_BATCH)
        self._removed_members = Batcher[str](self._remove_members, max_batch=MAX_BATCH)
        self._pages = Batcher[Call](partial(scripts.run_many, Script.READ_PAGE), max_batch=MAX_PAGES)
        self._lost_session_lookups = Batcher[str](self._remove_lost, max_batch=MAX_LOST_SESSION_LOOKUPS)

    async def register(self, user: str, sid: str) -> None:
        """Register the session: first the set by which a clean-up finds it, then its entry. Raise TooManySessions."""
        await self._added_members.run(encode_member(user, sid))
        entry = SessionEntry(self._incarnation).encode()
        call = Call([self._keys.sessions(user)], [sid, entry, SESSIONS_TTL_MS, self._max_sessions])
        if not await self._calls[Script.REGISTER].run(call, user):
            raise TooManySessions(self._max_sessions)

    async def remove_lost(self, user: str) -> int:
        """Remove the user's sessions at lost gateways, and return their number."""
        return int(await self._lost_session_lookups.run(user))

    async def leave(self, user: str, sid: str) -> None:
        """Undo `register` in reverse order, so that a clean-up can find what an error leaves behind."""
        call = Call([self._keys.sessions(user)], [sid, str(self._incarnation)])
        await self._calls[Script.REMOVE_SESSION].run(call, user)
        await self._removed_members.run(encode_member(user, sid))

    async def refresh_member(self, user: str, sid: str) -> None:
        """Write the session into the set by which a clean-up finds it."""
        await self._added_members.run(encode_member(user, sid))

    async def subscribe(
        self, user: str, sid: str, destination: Destination, *, without_queue: bool, given: StreamId | None = None
    ) -> tuple[LogState, int]:
        """Run the SUBSCRIBE script. Return the log's state and Redis TIME in ms. Raise TooManySessions.

        `without_queue` sends copies to this gateway's queue, in mode Session. `given` is the id that the client says
        it has.
        """
        keys = self._keys
        call = Call(
            [
                keys.sessions(user),
                keys.meta(user, destination),
                keys.log(user, destination),
                keys.destinations(user),
            ],
            [
                sid,
                str(self._incarnation),
                str(destination),
                SESSIONS_TTL_MS,
                META_EXTRA_TTL_MS,
                self._max_sessions,
                1 + without_queue,
                "" if given is None else str(given),
            ],
        )
        try:
            born, ms, seq, cursor, sent, oldest, now, held = await self._calls[Script.SUBSCRIBE].run(call, user)
        except ResponseError as error:
            if str(error).startswith("TOOMANYSESSIONS"):
                raise TooManySessions(self._max_sessions) from None
            raise
        delivered, written = StreamId.parse(cursor.decode()), StreamId.parse(sent.decode())
        held_id = StreamId.parse(held.decode()) if held else None
        return LogState(born, StreamId(ms, seq), delivered, written, oldest, now, held_id), now

    async def unsubscribe(self, user: str, sid: str, destination: Destination) -> None:
        """Remove the destination from the session's entry."""
        call = Call([self._keys.sessions(user)], [sid, str(destination)])
        await self._calls[Script.UNSUBSCRIBE].run(call, user)

    async def read_page(self, user: str, destination: Destination, asked: ReadPage) -> LogPage:
        """Run the READ_PAGE script. Return the oldest entries of the log that are newer than `asked.after`."""
        call = Call([self._keys.log(user, destination)], [str(asked.after), asked.limit, asked.max_bytes])
        cut, items = await self._pages.run(call, user)
        # A script returns the fields of an entry as one list, and redis-py leaves that as it is.
        entries = [LogEntry.from_stream(id_, dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in items]
        return LogPage(entries, bool(cut))

    async def read_entry(self, user: str, destination: Destination, message_id: StreamId) -> LogEntry | None:
        """Return one entry, or None when it has left the log."""
        with translated():
            items: Any = await self._client.xrange(self._keys.log(user, destination), str(message_id), str(message_id))
        return LogEntry.from_stream(*items[0]) if items else None

    async def advance_cursor(self, move: CursorMove) -> None:
        """Advance one cursor now, when it cannot wait for the next `advance_cursors`."""
        await self._calls[Script.ADVANCE_CURSOR].run(self._build_advance(move), move.user)

    async def advance_cursors(self, moves: Sequence[CursorMove]) -> None:
        """Advance many cursors in one round trip."""
        calls = [self._build_advance(move) for move in moves]
        replies = await self._scripts.run_many(Script.ADVANCE_CURSOR, calls)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        # Unavailable is raised before other errors, so that the caller sends all of them again.
        for error in [error for error in errors if isinstance(error, Unavailable)] or errors:
            raise error

    def _build_advance(self, move: CursorMove) -> Call:
        keys = [self._keys.meta(move.user, move.destination), self._keys.log(move.user, move.destination)]
        return Call(keys, [str(move.cursor), str(move.sent), self._kept_delivered_ms, MAX_TRIMMED_ENTRIES])

    async def renew_lease(self, broker_away_s: float) -> Renewal:
        """Extend the lease. Return also which Redis answered and how many gateways there are.

        `broker_away_s` is for how long there has been no connection to RabbitMQ; 0 with one. The operator is told.
        """
        arguments: list[Argument] = [str(self._incarnation), LEASE_MS, self._lost_gateway_ms]
        existed = await self._scripts.run(Script.RENEW_LEASE, [self._keys.gateways], arguments)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.info("server")
            pipeline.zcard(self._keys.gateways)
            pipeline.time()
            if not broker_away_s:
                pipeline.hdel(self._keys.without_broker, str(self._incarnation))
            with translated():
                info, gateways, (seconds, microseconds), *_ = await pipeline.execute()
        if broker_away_s:
            await self._tell_broker_away(seconds * 1_000 + microseconds // 1_000 - round(broker_away_s * 1_000))
        return Renewal(existed=bool(existed), run_id=str(info["run_id"]), gateways=gateways)

    async def _tell_broker_away(self, since_ms: int) -> None:
        """Tell the operator since when, by Redis TIME, there has been no connection to RabbitMQ."""
        try:
            with translated():
                await self._client.hset(self._keys.without_broker, str(self._incarnation), str(since_ms))
        except Unavailable as error:
            # The lease was renewed, and that is what counts. A full Redis, for example, takes no more than that.
            _log.warning("the operator was not told that RabbitMQ is away", extra={"cause": str(error)})

    async def remove_siblings(self) -> int:
        """Remove the sessions of earlier processes of this pod, and return their number."""
        with translated():
            members: list[bytes] = cast(Any, await self._client.zrange(self._keys.gateways, 0, -1))
        removed = 0
        for incarnation in filter(None, map(parse_lease, members)):
            if incarnation.pod_uid == self._incarnation.pod_uid and incarnation != self._incarnation:
                removed += await remove_incarnation(self._client, self._scripts, self._keys, incarnation)
        return removed

    async def remove_own_incarnation(self) -> None:
        """Remove everything that this incarnation still has in Redis, the lease last."""
        await remove_incarnation(self._client, self._scripts, self._keys, self._incarnation)

    async def close(self) -> None:
        """Cancel waiting calls. Return when no call is running any more."""
        await self._lost_session_lookups.close()  # first, because it uses the others
        for scripts in self._calls.values():
            await scripts.close()
        for members in (self._added_members, self._removed_members):
            await members.close()
        await self._pages.close()

    async def _add_members(self, members: Sequence[str]) -> list[Any]:
        await self._scripts.run(Script.ADD_MEMBERS, [self._keys.gateway(self._incarnation)], members)
        return [None] * len(members)

    async def _remove_members(self, members: Sequence[str]) -> list[Any]:
        with translated():
            await self._client.srem(self._keys.gateway(self._incarnation), *members)
        return [None] * len(members)

    async def _remove_lost(self, users: Sequence[str]) -> list[int]:
        """Check each user once, even if `users` has duplicates. Return a number for each item of `users`."""
        removed = dict.fromkeys(users, 0)
        lost = await self._find_lost(list(removed))
        calls = [
            (user, Call([self._keys.sessions(user)], [session.sid, str(session.incarnation)]))
            for user, sessions in lost.items()
            for session in sessions
        ]
        if calls:
            script = self._calls[Script.REMOVE_SESSION]
            replies = await asyncio.gather(*(script.run(call, user) for user, call in calls))
            for (user, _), reply in zip(calls, replies, strict=True):
                removed[user] += reply
            # A gateway that comes back during this may have written entries that were then removed. So its lease is
            # expired: the next renewal finds that and resyncs.
            incarnations = {str(session.incarnation) for sessions in lost.values() for session in sessions}
            await self._scripts.run(Script.EXPIRE_LEASES, [self._keys.gateways], list(incarnations))
        return [removed[user] for user in users]

    async def _find_lost(self, users: Sequence[str]) -> dict[str, tuple[LostSession, ...]]:
        # Sessions before leases: see `plan_lost`.
        async with self._client.pipeline(transaction=False) as pipeline:
            for user in users:
                pipeline.hgetall(self._keys.sessions(user))
            with translated():
                holders = [parse_holders(entries) for entries in await pipeline.execute()]
        incarnations = list({incarnation for each in holders for incarnation in each.values()})
        if not incarnations:
            return {}
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zmscore(self._keys.gateways, list(map(str, incarnations)))
            with translated():
                (seconds, microseconds), expiries = await pipeline.execute()
        leases, now_ms = dict(zip(incarnations, expiries, strict=True)), seconds * 1_000 + microseconds // 1_000
        plan = partial(plan_lost, leases=leases, now_ms=now_ms, lost_ms=self._lost_gateway_ms, own=self._incarnation)
        return {user: plan(each) for user, each in zip(users, holders, strict=True)}
