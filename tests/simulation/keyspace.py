"""What a simulated Redis holds: the contract's scripts as Python, with an undo log for what no fsync has covered.

`tests/integration/test_keyspace.py` runs the same calls through the real scripts and compares.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from pushcluster_contract.headers import POSSIBLY_REPEATED
from pushcluster_contract.ids import StreamId
from pushcluster_contract.scripts import Script
from tests.support.delivery_log import Entry, Fate


@dataclass(slots=True)
class Item:
    """One entry of a stream."""

    id: StreamId
    fields: dict[bytes, bytes]

    def reply(self) -> tuple[bytes, dict[bytes, bytes]]:
        return str(self.id).encode(), self.fields


@dataclass(slots=True)
class Keyspace:
    """What Redis holds, with an undo log for what no fsync has covered. Time comes in from outside, in ms."""

    data: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[Entry]] = field(default_factory=dict)
    """Every entry that the log of a key ever had, with its fate."""
    expiries: dict[str, tuple[int, Fate]] = field(default_factory=dict)
    """When the log of a key expires as a whole, ms, and what that makes of its entries."""
    noted: dict[str, list[tuple[float, StreamId]]] = field(default_factory=dict)
    """By meta, when `sent` moved and whereto, s of `clock_s`; nothing that was lost since."""
    clock_s: Callable[[], float] = lambda: 0.0
    """What histories are dated by. It goes on where TIME steps."""
    term: int = 0
    """Of who runs the next commands; see `Entry.term`."""
    emptied_at: list[float] = field(default_factory=list)
    """When somebody emptied it, s of `clock_s`."""
    raised_at: dict[int, float] = field(default_factory=dict)
    """When the fence was raised to a token, before any append with it, s of `clock_s`."""
    _undo: list[list[Callable[[], None]]] = field(default_factory=list)

    @property
    def unsynced(self) -> int:
        """Commands that no fsync has covered."""
        return len(self._undo)

    def synced(self, commands: int) -> None:
        """The oldest so many commands are on disk."""
        del self._undo[:commands]

    def lose(self, commands: int) -> None:
        """The newest so many commands have not happened."""
        if commands:
            self.noted.clear()
        for _ in range(commands):
            for undo in reversed(self._undo.pop()):
                undo()

    def wipe(self) -> None:
        """FLUSHALL."""
        self.emptied_at.append(self.clock_s())
        for entries in self.history.values():
            for entry in entries:
                entry.forgotten = True
                if entry.fate is Fate.KEPT:
                    entry.fate = Fate.WIPED
        self.data.clear()
        self.noted.clear()
        self._undo.clear()

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        """Run one script; return its reply or its error."""
        self.expire(now)
        self._undo.append([])
        return getattr(self, f"_{script.value}")(keys, args, now)

    def command(self, name: str, *args: Any) -> Any:
        """Run one plain command."""
        self._undo.append([])
        return getattr(self, f"_command_{name}")(*args)

    def expire(self, now: int) -> None:
        """Let logs go whose time is over."""
        for key, (expiry, fate) in list(self.expiries.items()):
            if expiry <= now:
                del self.expiries[key]
                for entry in self.history[key] if self.data.pop(key, None) else ():
                    if entry.fate is Fate.KEPT:
                        entry.fate = fate

    # Scripts

    def _append(self, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        meta_key, log_key, sessions_key, _, fence_key, _, *id_keys = keys
        token, attempt = args[11:13]
        fence = self.data.get(fence_key, 0)
        if int(token) < fence:
            return ResponseError(f"STALE token {_text(token)}, another one has appended since")
        if int(token) > fence:
            self._touch(fence_key, None)
            self.data[fence_key] = int(token)
        sessions = self._subscribed(sessions_key, args[10])
        channel, tag = map(int, attempt.split(b"-"))
        made = self.data.get(meta_key, {}).get("attempt", (0, 0))
        made_before = made[0] == channel and tag <= made[1]
        log: list[Item] = self.data.get(log_key, [])
        if made_before and (entries := [item for item in log if item.fields.get(b"a") == attempt]):
            return _tell(entries[0], 3, sessions)
        if id_keys and (known := self._find_known(keys, args, now, sessions, note=not made_before)):
            return known
        if made_before:
            if not id_keys and any(not _is_later(item, channel, tag) for item in log):
                return ResponseError("ERR refused when it was tried before")
            return [b"", 3, 0, sessions, 0]
        new, dropped, expires = self._add_entry(keys, args, now)
        self.data[meta_key]["attempt"] = (channel, tag)
        if id_keys:
            self._touch(id_keys[0], None)
            self.data[id_keys[0]] = (new, now + int(args[9]))
        return [str(new).encode(), 0, dropped, sessions, expires]

    def _find_known(
        self, keys: Sequence[str], args: Sequence[Any], now: int, sessions: bytes, *, note: bool
    ) -> list[Any] | None:
        """Return what APPEND says of a message id that is known; else note what is forgotten by that."""
        meta_key, log_key, id_key = keys[0], keys[1], keys[6]
        known, born = self.data.get(id_key), self.data.get(meta_key, {}).get("born")
        if known is None:
            return None
        if known[1] <= now or born is None or known[0].ms < born:
            for entry in self.history[log_key] if note else ():
                entry.id_expired |= entry.id == known[0]
            return None
        self._touch(id_key, None)
        self.data[id_key] = (known[0], now + int(args[9]))
        entries = [item for item in self.data.get(log_key, []) if item.id == known[0]]
        if entries and entries[0].fields[b"b"] != args[0]:
            return [str(known[0]).encode(), 2, 0, b"", 0]
        if note:
            channel, tag = map(int, args[12].split(b"-"))
            self._touch(meta_key, {})["attempt"] = (channel, tag)
        cursor = self.data[meta_key].get("cursor")
        meta = self.data[meta_key]
        may_be_missed = not entries and meta.get("missed", known[0].seq) < known[0].seq <= meta.get("accounted", 0)
        code = 4 if cursor is not None and cursor.seq >= known[0].seq and not may_be_missed else 1
        return _tell(entries[0], code, sessions) if entries else [str(known[0]).encode(), code, 0, sessions, 0]

    def _add_entry(self, keys: Sequence[str], args: Sequence[Any], now: int) -> tuple[StreamId, int, int]:
        """Append, and trim; return the new id, how many entries were dropped, and the expiry."""
        meta_key, log_key = keys[:2]
        body, headers, content_type, message_id, ttl, max_entries, offline_ms, window_ms = args[:8]
        meta: dict[str, Any] = self._touch(meta_key, {})
        newest: StreamId = meta.get("newest", StreamId(0, 0))
        cursor: StreamId = meta.get("cursor", StreamId(0, 0))
        new = StreamId(max(newest.ms, now), newest.seq + 1)
        given = ((b"h", headers), (b"t", content_type), (b"m", message_id))
        fields = {b"b": body, b"a": args[12], **{name: value for name, value in given if value}}
        expires = now + int(ttl) if int(ttl) else 0
        if expires:
            fields[b"e"] = b"%d" % expires
        pace = int(window_ms) // 8
        due = log_key not in self.data or not meta.get("tidied", now + 1) <= now < meta["tidied"] + pace
        log: list[Item] = self._touch(log_key, [])
        if due or cursor == newest:
            self._expire_at(log_key, now + int(offline_ms) + pace, Fate.LIMITS)
        log.append(Item(new, fields))
        entry = Entry(new, body.decode(), appended_at=self.clock_s(), term=self.term)
        entry.fenced_at = self.raised_at.get(int(args[11]))
        entry.marked = bool(headers) and POSSIBLY_REPEATED in json.loads(headers)
        self._note(log_key, entry)
        keep_from = max(now - int(offline_ms), min(cursor.ms, now - int(window_ms)), 0) if due else 0
        self._trim(log_key, log, keep_from, now - int(offline_ms), int(max_entries))
        before_oldest = new.seq - len(log)
        dropped = max(0, before_oldest - max(cursor.seq, meta.get("accounted", 0)))
        meta["newest"] = new
        if due:
            meta["tidied"] = now
        if dropped:
            meta["accounted"] = before_oldest
            meta.setdefault("missed", before_oldest - dropped)
        meta.setdefault("born", now)
        return new, dropped, expires

    def _take_token(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        token: int = max(self.data.get(keys[0], now), self.data.get(keys[1], 0), int(args[0])) + 1
        self._touch(keys[0], None)
        self.data[keys[0]] = token
        return token

    def _raise_fence(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        token, fence = int(args[0]), self.data.get(keys[0], 0)
        if token > fence:
            self._touch(keys[0], None)
            self.data[keys[0]] = token
            self.raised_at[token] = self.clock_s()
        return int(token >= fence)

    def _subscribe(self, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        sessions_key, meta_key, log_key, _ = keys
        sid, incarnation, destination, most, given = args[0], args[1], args[2], args[5], args[7]
        sessions: dict[bytes, bytes] = self._touch(sessions_key, {})
        entry = sessions.get(sid.encode())
        if entry is None:
            if len(sessions) >= int(most):
                return ResponseError(f"TOOMANYSESSIONS the user has {most} sessions")
            entry = incarnation.encode()
        words = entry.split(b" ")
        at = words.index(destination.encode()) if destination.encode() in words else len(words)
        others = [word for word in words if word != destination.encode()]
        sessions[sid.encode()] = b" ".join(others[:at] + [destination.encode()] * int(args[6]) + others[at:])
        meta = self.data.get(meta_key, {})
        newest: StreamId = meta.get("newest", StreamId(0, 0))
        cursor, sent = meta.get("cursor", StreamId(0, 0)), meta.get("sent", StreamId(0, 0))
        log: list[Item] = self.data.get(log_key, [])
        oldest = newest.seq - len(log) + 1
        texts = str(cursor).encode(), str(sent).encode()
        held = [str(item.id).encode() for item in log if given and item.id <= StreamId.parse(given)]
        return [meta.get("born", 0), newest.ms, newest.seq, *texts, oldest, now, held[-1] if held else b""]

    def _read_page(self, keys: Sequence[str], args: Sequence[Any], now: int) -> list[Any]:
        after, limit, free = StreamId.parse(args[0]), int(args[1]), int(args[2])
        page: list[Any] = []
        for item in self.data.get(keys[0], []):
            if item.id <= after:
                continue
            free -= sum(len(name) + len(value) for name, value in item.fields.items())
            if free < 0 and page:
                return [1, page]
            page.append([str(item.id).encode(), [text for field in item.fields.items() for text in field]])
            if len(page) == limit:
                break
        return [0, page]

    def _unsubscribe(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        sid, destination = args[0].encode(), args[1].encode()
        entry = self.data.get(keys[0], {}).get(sid)
        if entry is None:
            return 0
        words = entry.split(b" ")
        if destination not in words:
            return 0
        self._touch(keys[0], {})[sid] = b" ".join(word for word in words if word != destination)
        return 1

    def _register(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        sessions: dict[bytes, bytes] = self._touch(keys[0], {})
        sid = args[0].encode()
        if sid not in sessions and len(sessions) >= int(args[3]):
            return 0
        sessions[sid] = args[1].encode()
        return 1

    def _remove_session(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        entry = self.data.get(keys[0], {}).get(args[0].encode())
        if entry is None or entry.split(b" ")[0] != args[1].encode():
            return 0
        del self._touch(keys[0], {})[args[0].encode()]
        return 1

    def _advance_cursor(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        meta = self.data.get(keys[0])
        if not meta or "newest" not in meta:
            return 0
        meta = self._touch(keys[0], {})
        cursor, sent, keep_ms = StreamId.parse(args[0]), StreamId.parse(args[1]), int(args[2])
        moved, before = 0, meta.get("cursor", StreamId(0, 0))
        if before < cursor <= meta["newest"]:
            meta["cursor"] = cursor
            moved = 1
        if meta.get("sent", StreamId(0, 0)) < sent <= meta["newest"]:
            meta["sent"] = sent
            self.noted.setdefault(keys[0], []).append((self.clock_s(), sent))
        cursor = meta.get("cursor")
        if cursor is None or keys[1] not in self.data:
            return moved
        if cursor == meta["newest"]:
            self._expire_at(keys[1], now + keep_ms, Fate.WINDOW)
        tidied = meta.get("tidied", now + 1)
        if tidied <= now < tidied + keep_ms // 8 and before.ms >= tidied - keep_ms:
            return moved
        old = max(now - keep_ms, 0)
        first_kept = StreamId(cursor.ms, cursor.seq + 1) if cursor.ms < old else StreamId(old, 0)
        log: list[Item] = self._touch(keys[1], [])
        assert len(log) <= int(args[3]), "past ARGV[4] Redis trims whole nodes (XTRIM … ~ … LIMIT): not modelled"
        kept = [item for item in log if item.id >= first_kept]
        self._forget_trimmed(keys[1], kept, lambda entry: Fate.WINDOW)
        log[:] = kept
        return moved

    def _renew_lease(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        gateways: dict[bytes, int] = self._touch(keys[0], {})
        before = gateways.get(args[0].encode())
        gateways[args[0].encode()] = now + int(args[1])
        return int(before is not None and before + int(args[2]) > now)

    def _forget(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        found = 0
        self.noted.pop(keys[0], None)
        for key in keys[:2]:
            if key in self.data:
                self._touch(key, None)
                del self.data[key]
                found = 1
        for entry in self.history.get(keys[1], []):
            self._undo[-1].append(partial(_set_fate, entry, entry.fate))
            entry.forgotten = True
            if entry.fate is Fate.KEPT:
                entry.fate = Fate.WIPED
        return found

    def _add_members(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        held: dict[bytes, None] = self._touch(keys[0], {})
        before = len(held)
        held.update((member.encode(), None) for member in args)
        return len(held) - before

    def _expire_leases(self, keys: Sequence[str], args: Sequence[Any], now: int) -> int:
        leases: dict[bytes, int] = self._touch(keys[0], {})
        leases.update((member.encode(), 0) for member in args if member.encode() in leases)
        return 0

    def _barrier(self, keys: Sequence[str], args: Sequence[Any], now: int) -> bytes:
        self._touch(keys[0], None)
        self.data[keys[0]] = b"1"
        return b"OK"

    # Plain commands

    def _command_pexpire(self, key: str, ms: int, now: int) -> int:
        known = self.data.get(key)
        if known is None or known[1] <= now:
            return 0
        self._touch(key, None)
        self.data[key] = (known[0], now + ms)
        return 1

    def _command_srem(self, key: str, *members: str | bytes) -> int:
        held: dict[bytes, None] = self._touch(key, {})
        names = [member.encode() if isinstance(member, str) else member for member in members]
        return sum(held.pop(name, 0) is None for name in names)

    def _command_srandmember(self, key: str, count: int) -> list[bytes]:
        return list(self.data.get(key, {}))[:count]

    def _command_zrange(self, key: str) -> list[bytes]:
        return list(self.data.get(key, {}))

    def _command_zcard(self, key: str) -> int:
        return len(self.data.get(key, {}))

    def _command_zrem(self, key: str, member: str) -> int:
        return int(self._touch(key, {}).pop(member.encode(), None) is not None)

    def _command_hdel(self, key: str, *fields: str) -> int:
        held: dict[bytes, Any] = self._touch(key, {})
        return sum(held.pop(name.encode(), None) is not None for name in fields)

    def _command_hset(self, key: str, name: str, value: str) -> int:
        held: dict[bytes, Any] = self._touch(key, {})
        held[name.encode()] = value.encode()
        return 1

    def _command_xrange(self, key: str, low: str, high: str, count: int | None) -> list[Any]:
        exclusive = low.startswith("(")
        first = StreamId.parse(low.lstrip("("))
        items: list[Item] = self.data.get(key, [])
        found = [i for i in items if (i.id > first if exclusive else i.id >= first)]
        if high != "+":
            found = [item for item in found if item.id <= StreamId.parse(high)]
        return [item.reply() for item in found[:count]]

    # Steps

    def _subscribed(self, sessions_key: str, destination: bytes) -> bytes:
        words = {sid: entry.split(b" ") for sid, entry in self.data.get(sessions_key, {}).items()}
        return b"\n".join(
            sid + b" " + entry[0] + b" -" * (entry.count(destination) > 1)
            for sid, entry in words.items()
            if destination in entry[1:]
        )

    def _touch(self, key: str, default: Any) -> Any:
        """Return a key's value to change it; what it was comes back if this command is lost."""
        held = self.data.get(key)
        saved = held.copy() if isinstance(held, dict | list) else held
        self._undo[-1].append(partial(self._restore, key, saved))
        if held is None and default is not None:
            held = self.data[key] = default
        return held

    def _restore(self, key: str, saved: Any) -> None:
        if saved is None:
            self.data.pop(key, None)
        else:
            self.data[key] = saved

    def _note(self, log_key: str, entry: Entry) -> None:
        self.history.setdefault(log_key, []).append(entry)
        self._undo[-1].append(partial(_set_fate, entry, Fate.VANISHED))

    def _expire_at(self, key: str, at: int, fate: Fate) -> None:
        expiry = at, fate
        self._undo[-1].append(partial(self.expiries.__setitem__, key, self.expiries.get(key, expiry)))
        self.expiries[key] = expiry

    def _trim(self, log_key: str, log: list[Item], keep_from: int, too_old: int, max_entries: int) -> None:
        kept = [item for item in log if item.id.ms >= keep_from][-max_entries:]
        self._forget_trimmed(
            log_key,
            kept,
            lambda entry: Fate.WINDOW if keep_from > entry.id.ms >= too_old else Fate.LIMITS,
        )
        log[:] = kept

    def _forget_trimmed(self, log_key: str, kept: list[Item], fate: Callable[[Entry], Fate]) -> None:
        """Note what became of entries that are not kept; they come back if the command is lost."""
        held = {item.id for item in kept}
        for entry in self.history.get(log_key, ()):
            if entry.fate is Fate.KEPT and entry.id not in held:
                entry.fate = fate(entry)
                self._undo[-1].insert(0, partial(_set_fate, entry, Fate.KEPT))


def _tell(item: Item, code: int, sessions: bytes) -> list[Any]:
    """Return an entry of the log as APPEND does."""
    fields = item.fields
    rest = fields.get(b"t", b""), fields.get(b"h", b"")
    return [str(item.id).encode(), code, 0, sessions, int(fields.get(b"e", b"0")), *rest]


def _is_later(item: Item, channel: int, tag: int) -> bool:
    """Return whether an entry comes from a later delivery of the same channel."""
    its_channel, its_tag = map(int, item.fields.get(b"a", b"0-0").split(b"-"))
    return its_channel == channel and its_tag > tag


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _set_fate(entry: Entry, fate: Fate) -> None:
    entry.fate = fate
