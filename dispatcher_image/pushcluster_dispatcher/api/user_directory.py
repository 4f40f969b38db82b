"""Read what Redis knows about one user, and delete it, for the HTTP API. Every method may raise Unavailable."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import ZERO_ID, Incarnation, StreamId
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_dispatcher.api.explain import LogFacts
from pushcluster_runtime.redis.client import Call, ScriptRunner, translated

FORGET_BATCH: Final = 100
"""How many destinations one round trip forgets."""

_log = logging.getLogger(__name__)


class UserDirectory:
    """Reads sessions, logs and leases; deletes logs."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._scripts = ScriptRunner(client)
        self._keys = keys

    async def sessions(self, user: str) -> dict[str, SessionEntry]:
        """Return the user's sessions by id."""
        with translated():
            raw: Mapping[bytes, bytes] = await self._client.hgetall(self._keys.sessions(user))  # type: ignore[assignment]
        parsed = {sid.decode(): _parse_entry(entry) for sid, entry in raw.items()}
        return {sid: entry for sid, entry in parsed.items() if entry is not None}

    async def log_facts(self, user: str, destination: Destination) -> LogFacts:
        """Return the state of the log. A log that does not exist has no entries."""
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(self._keys.meta(user, destination), "ms", "seq", "cursor")
            pipeline.xlen(self._keys.log(user, destination))
            with translated():
                (ms, seq, cursor), entries = await pipeline.execute()
        newest = ZERO_ID if seq is None else StreamId(int(ms), int(seq))
        return LogFacts(entries, newest, ZERO_ID if cursor is None else StreamId.parse(cursor.decode()))

    async def leases(self, incarnations: Iterable[Incarnation]) -> dict[Incarnation, bool]:
        """Return for each gateway process whether it holds its lease, by Redis TIME."""
        wanted = list(dict.fromkeys(incarnations))
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for incarnation in wanted:
                pipeline.zscore(self._keys.gateways, str(incarnation))
            with translated():
                (seconds, microseconds), *expiries = await pipeline.execute()
        now_ms = seconds * 1_000 + microseconds // 1_000
        return {each: expiry is not None and expiry > now_ms for each, expiry in zip(wanted, expiries, strict=True)}

    async def forget(self, user: str) -> int:
        """Delete every log and meta that the user has now; return the number of destinations.

        SSCAN returns whatever is in the set from its first to its last call, so nothing that was there is missed, and
        what arrives meanwhile does not keep it going.
        """
        forgotten, cursor = 0, 0
        key = self._keys.destinations(user)
        while True:
            with translated():
                page: Any = await self._client.sscan(key, cursor=cursor, count=FORGET_BATCH)
            cursor, members = page
            # Redis returns a small set in one answer, of up to 128 members or more, whatever `count` says.
            for start in range(0, len(members), FORGET_BATCH):
                forgotten += await self._forget_batch(user, members[start : start + FORGET_BATCH])
            if cursor == 0:
                return forgotten

    async def _forget_batch(self, user: str, members: Sequence[bytes]) -> int:
        keys = self._keys
        destinations = [Destination.parse(member.decode()) for member in members]
        calls = [
            Call([keys.meta(user, each), keys.log(user, each), keys.destinations(user)], [str(each)])
            for each in destinations
        ]
        replies: list[Any] = await self._scripts.run_many(Script.FORGET, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return sum(map(int, replies))


def _parse_entry(text: bytes) -> SessionEntry | None:
    """Return an entry, or None if this version cannot read it."""
    try:
        return SessionEntry.parse(text.decode())
    except (InvalidInput, UnicodeDecodeError):
        _log.warning("a session entry cannot be read and is left out", extra={"entry": repr(text[:200])})
        return None
