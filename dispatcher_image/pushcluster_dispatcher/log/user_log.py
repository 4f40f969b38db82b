"""Append to the users' logs, and look up the users' sessions in the same round trip.

Messages of one user and destination in the same batch go into one MULTI/EXEC. Redis runs or refuses such a group as a
whole. So if memory runs out in the middle of a pipeline, no later message of a user can overtake an earlier one.
Between batches, the order holds because the next batch starts only after the last one was answered.

Each message comes with the name of its attempt: the delivery of which channel it is. Whoever does not know what became
of an append makes the same attempt again, and nothing is appended twice (`lua/append.lua`).
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from redis.exceptions import NoScriptError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import DISPATCHER_PREFETCH_MESSAGES, SESSIONS_TTL_MS
from pushcluster_contract.log_entry import encode_headers
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.log.entries import Appended, AppendRefused, StaleToken
from pushcluster_dispatcher.log.interfaces import OnPart, Sleep, Wire
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.client import DIGESTS, SOURCES
from pushcluster_runtime.redis.wire import Reply, pack, pack_bulk

CACHED_USERS: Final = 512
"""How many users' destinations have their keys cached, for each partition: at most about 2.5 kilobytes each."""

FIRST_ROUND_MESSAGES: Final = 250
"""Messages in the first round trip. Each that was not large doubles the number, up to the prefetch."""
LARGE_ROUND_BYTES: Final = 1_048_576
"""Bytes of session lists in one round trip of a partition. After a larger one, the next has half as many messages."""

_KEYS: Final = 6
"""KEYS of `lua/append.lua`. There is one more with a message id."""
_ARGUMENTS: Final = 14
"""ARGV of the same. There is one more when the producer wants outcomes."""


def _begin_call(more_keys: int, more_arguments: int) -> bytes:
    begin = ("EVALSHA", DIGESTS[Script.APPEND], str(_KEYS + more_keys))
    count = len(begin) + _KEYS + more_keys + _ARGUMENTS + more_arguments
    return b"*%d\r\n" % count + b"".join(pack_bulk(each.encode()) for each in begin)


_BEGINNINGS: Final = {(keys, arguments): _begin_call(keys, arguments) for keys in (0, 1) for arguments in (0, 1)}
"""By the number of optional keys and arguments."""
_PLAIN: Final = _BEGINNINGS[0, 0]
_NOTHING_MORE: Final = Message("", Destination("queue", ""), b"")[3:]
"""The other fields of a message that has only user, destination and body, as most do."""
_NEW: Final = 0
_OTHER_BODY: Final = 2
_MADE_BEFORE: Final = 3
_GOT: Final = 4
"""What `lua/append.lua` says of a message: appended, another body under its message id, this attempt made before."""
_SESSIONS_TTL: Final = pack_bulk(b"%d" % SESSIONS_TTL_MS)
_MULTI: Final = pack("MULTI")
_EXEC: Final = pack("EXEC")
_MESSAGE_AT_FAULT: Final = ("ERR", "WRONGTYPE")
"""Errors that concern only this message, and that a retry does not fix. After any other error, it is appended again."""
_STALE: Final = "STALE"

_log = logging.getLogger(__name__)


async def _ignore(_: Mapping[int, Appended | AppendRefused]) -> None:
    """Do nothing with a part: wait for all results."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What lets a session append: a fencing token, and the partition that it is for."""

    partition: int
    token: int


class UserLog:
    """Runs APPEND on one Redis connection with one fencing token, and ends with either."""

    def __init__(
        self,
        wire: Wire,
        keys: Keys,
        retention: Retention,
        fence: Fence,
        *,
        backoff: Backoff,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._wire = wire
        self._fence_key = pack_bulk(keys.fence(fence.partition).encode())
        self._token = pack_bulk(b"%d" % fence.token)
        bounds = (
            retention.max_entries,
            retention.offline_ttl_ms,
            retention.kept_delivered_ms,
            retention.meta_ttl_ms,
            retention.idempotency_window_ms,
        )
        self._retention = b"".join(pack_bulk(b"%d" % each) for each in bounds)
        self._plain_arguments = b"".join(map(pack_bulk, (b"", b"", b"", b"0"))) + self._retention
        self._ids_window_ms = retention.idempotency_window_ms
        self._keys = keys
        self._keys_of = lru_cache(maxsize=CACHED_USERS)(self._pack_keys)
        self._backoff = backoff
        self._sleep = sleep
        self._waiting = False
        self._most = FIRST_ROUND_MESSAGES

    async def append(
        self, messages: Sequence[Message], attempts: Sequence[bytes], on_part: OnPart = _ignore
    ) -> list[Appended | AppendRefused]:
        """Append messages in order, and return the result for each. `attempts` names the attempt of each message.

        Raise Unavailable when the connection is lost. Nobody then knows which messages were appended. Raise StaleToken
        when another consumer of the partition has appended since. Then none of those without a result was appended.

        While Redis cannot take messages (full, loading, read-only), this repeats, each time with half as many. Commands
        that wait in a connection count as Redis's memory too, so a large batch may never fit where small ones do. Users
        with many sessions also make the round trips smaller. Whenever the rest has to wait, `on_part` gets the results
        since its last call, by position. Nothing is unanswered then, so it may raise to end the append.
        """
        results: list[Appended | AppendRefused | None] = [None] * len(messages)
        calls = [self._build_call(*each) for each in zip(messages, attempts, strict=True)]
        pending = _group(messages)
        told: set[int] = set()
        while pending:
            replies = await self._run(_first(pending, self._most), calls)
            trouble = _take(replies, results)
            if trouble is not None or _count_session_bytes(replies.values()) > LARGE_ROUND_BYTES:
                self._most = max(1, self._most // 2)
            elif len(replies) == self._most:
                self._most = min(2 * self._most, DISPATCHER_PREFETCH_MESSAGES)
            if trouble is not None:
                part = {n: result for n, result in enumerate(results) if result is not None and n not in told}
                told.update(part)
                await on_part(part)
                await self._recover(trouble)
            pending = [kept for group in pending if (kept := [n for n in group if results[n] is None])]
        self._backoff.reset()
        self._waiting = False
        return [result for result in results if result is not None]

    async def keep_ids(self, messages: Sequence[Message]) -> None:
        """Keep the known ids of these messages known for another whole window. Raise Unavailable.

        PEXPIRE needs no memory, so a full Redis takes it. A loading Redis refuses it, and keeps what it has.
        """
        commands = [
            pack("PEXPIRE", self._keys.message(each.user, each.destination, each.message_id), self._ids_window_ms)
            for each in messages
            if each.message_id
        ]
        if commands:
            await self._wire.execute(commands)

    async def _run(self, groups: Sequence[Sequence[int]], calls: Sequence[bytes]) -> dict[int, Reply]:
        """Run the calls of all groups in one write, and return each call's reply."""
        commands: list[bytes] = []
        at: list[tuple[Sequence[int], int]] = []
        for group in groups:
            if len(group) == 1:
                at.append((group, len(commands)))
                commands.append(calls[group[0]])
            else:
                commands += [_MULTI, *(calls[n] for n in group), _EXEC]
                at.append((group, len(commands) - 1))
        replies = await self._wire.execute(commands)
        answers: dict[int, Reply] = {}
        for group, position in at:
            reply = replies[position]
            if len(group) == 1 or isinstance(reply, Exception):
                answers.update((n, reply) for n in group)
            else:
                answers.update(zip(group, reply, strict=True))
        return answers

    async def _recover(self, trouble: Exception) -> None:
        if str(trouble).startswith(_STALE):
            raise StaleToken(f"Redis: {trouble}")
        if isinstance(trouble, NoScriptError):
            await self._wire.execute([pack("SCRIPT", "LOAD", SOURCES[Script.APPEND])])
            return
        if not self._waiting:
            self._waiting = True
            _log.warning(
                "Redis does not take messages; the dispatcher repeats the append until it does",
                extra={"reason": str(trouble)},
            )
        await self._sleep(self._backoff.next_delay_s())

    def _build_call(self, message: Message, attempt: bytes) -> bytes:
        """Return one packed EVALSHA, with the keys and arguments of `lua/append.lua`."""
        keys, destination = self._keys_of(message.user, message.destination)
        body = message.body
        if message[3:] == _NOTHING_MORE:
            return b"%b%b$%d\r\n%b\r\n%b%b%b%b%b" % (
                _PLAIN,
                keys,
                len(body),
                body,
                self._plain_arguments,
                destination,
                self._token,
                pack_bulk(attempt),
                _SESSIONS_TTL,
            )
        headers = encode_headers(message.headers).encode() if message.headers else b""
        more = [] if message.reply is None else [pack_bulk(message.reply.encode().encode())]
        ids: list[bytes] = []
        if message.message_id:
            ids.append(pack_bulk(self._keys.message(message.user, message.destination, message.message_id).encode()))
        return b"%b%b%b$%d\r\n%b\r\n%b%b%b%b%b%b%b%b%b%b" % (
            _BEGINNINGS[len(ids), len(more)],
            keys,
            b"".join(ids),
            len(body),
            body,
            pack_bulk(headers),
            pack_bulk(message.content_type.encode()),
            pack_bulk(message.message_id.encode()),
            pack_bulk(b"%d" % message.ttl_ms),
            self._retention,
            destination,
            self._token,
            pack_bulk(attempt),
            _SESSIONS_TTL,
            b"".join(more),
        )

    def _pack_keys(self, user: str, destination: Destination) -> tuple[bytes, bytes]:
        """Return the packed keys of a user's destination, and the destination itself."""
        keys = self._keys
        names = (
            keys.meta(user, destination),
            keys.log(user, destination),
            keys.sessions(user),
            keys.destinations(user),
        )
        packed = b"".join(pack_bulk(name.encode()) for name in names)
        recipients = pack_bulk(keys.recipients(user, destination).encode())
        return packed + self._fence_key + recipients, pack_bulk(str(destination).encode())


def _group(messages: Sequence[Message]) -> list[list[int]]:
    """Return the positions of the messages, grouped by user and destination, each group in order."""
    groups: dict[tuple[str, Destination], list[int]] = {}
    for n, message in enumerate(messages):
        groups.setdefault((message.user, message.destination), []).append(n)
    return list(groups.values())


def _first(groups: Sequence[Sequence[int]], most: int) -> list[Sequence[int]]:
    """Return at most `most` positions of the groups, in order."""
    taken: list[Sequence[int]] = []
    for group in groups:
        if most <= 0:
            break
        taken.append(group[:most])
        most -= len(group)
    return taken


def _take(replies: Mapping[int, Reply], results: list[Appended | AppendRefused | None]) -> Exception | None:
    """Put the replies into `results`. Return an error after which the append is repeated, if there is one."""
    trouble: Exception | None = None
    seen: dict[bytes, bytes] = {}
    for n, reply in replies.items():
        if not isinstance(reply, Exception):
            results[n] = _parse_reply(reply, seen)
        elif not isinstance(reply, Unavailable | NoScriptError) and str(reply).startswith(_MESSAGE_AT_FAULT):
            results[n] = AppendRefused(f"Redis: {reply}")
        else:
            trouble = reply
    return trouble


def _count_session_bytes(replies: Iterable[Reply]) -> int:
    return sum(len(reply[3]) for reply in replies if not isinstance(reply, Exception))


def _parse_reply(reply: Sequence[Any], seen: dict[bytes, bytes]) -> Appended | AppendRefused:
    stream_id, known, dropped, sessions, expires_ms, *held = reply
    if known == _OTHER_BODY:
        text = f"another message was published under this message id before: {stream_id.decode()} in the user's log"
        return AppendRefused(text, other_body=True)
    # All messages of one user share one list of its sessions, to save memory.
    sessions = seen.setdefault(sessions, sessions)
    in_log = tuple(held) if held else None
    made_before, got = known == _MADE_BEFORE, known == _GOT
    return Appended(stream_id, known != _NEW, dropped, sessions, expires_ms, in_log, made_before, got)
