"""The simulation's model of the Lua scripts says what the scripts say, for any sequence of calls.

The scripts run in a real Redis; their clock is a key that both sides read.
"""

import random
import secrets
from collections import Counter
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import Keys, encode_member
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_runtime.redis.client import connect
from tests.simulation.keyspace import Keyspace
from tests.support.appends import append_call

CLOCK: Final = "simulated-clock"
EXPIRIES: Final = "simulated-expiries"
START_MS: Final = 1_700_000_000_000
CALLS: Final = 150
HOUR: Final = 3_600_000

_NOTE_EXPIRY: Final = f"""
local function note_expiry(_, key, in_ms)
  local now = redis.call('LRANGE', '{CLOCK}', 0, 1)
  local at = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) + tonumber(in_ms)
  redis.call('HSET', '{EXPIRIES}', key, string.format('%.0f', at))
end
"""

Call = tuple[Script, list[str], list[Any]]


class Caller:
    """Makes calls at random, as gateways and dispatchers make them."""

    def __init__(self, rng: random.Random) -> None:
        self.now = START_MS
        self._rng = rng
        self._keys = Keys(f"t{secrets.token_hex(8)}.demo")
        self._sids = [session_id(rng.randbytes(17)) for _ in range(3)]
        self._incarnations = [str(Incarnation.new(f"pod{n}", rng.randbytes(8))) for n in range(2)]
        self._destinations = [Destination("queue", "x"), Destination("topic", "x")]
        self._window_ms = rng.choice((1_000, 20_000, HOUR))
        self._newest = ["1-1"]
        self._token = START_MS
        self._channel = 1
        self._tags: Counter[str] = Counter()

    def next_call(self) -> Call:
        self.now += self._rng.choice((0, 1, 300, 5_000))
        script = self._rng.choice((*[Script.APPEND] * 4, *[Script.ADVANCE_CURSOR] * 2, *Script))
        return (script, *getattr(self, f"_{script.value}")())

    def note(self, script: Script, reply: Any) -> None:
        if script is Script.APPEND and isinstance(reply, list) and reply[0]:
            self._newest.append(reply[0].decode())

    def _append(self) -> tuple[list[str], list[Any]]:
        keys, destination, rng = self._keys, self._rng.choice(self._destinations), self._rng
        message_id = rng.choice(("", "a", "b", "c", "d"))
        body, headers = rng.choice((b"body", b"body", b"other")), rng.choice(("", "{}"))
        self._token += rng.choice((0, 0, 0, 0, 1))
        call = append_call(
            keys,
            "u",
            destination,
            body,
            headers=headers,
            content_type=headers and "a/b",
            message_id=message_id,
            ttl_ms=rng.choice((0, 0, 60_000)),
            most=5,
            keep_ms=HOUR,
            kept_delivered_ms=self._window_ms,
            meta_ms=2 * HOUR,
            known_ms=HOUR,
            token=self._token - rng.choice((0, 0, 0, 1)),
            attempt=self._name_attempt(str(destination)),
        )
        return list(call.keys), [_encode(each) for each in call.args]

    def _name_attempt(self, destination: str) -> str:
        """The next delivery of this channel or of the next one, or an earlier one again."""
        if self._rng.random() < 0.1:
            self._channel += 1
        tag = self._tags[destination] = self._tags[destination] + 1
        if self._rng.random() < 0.3:
            tag = max(1, tag - self._rng.choice((1, 2, 3, 7)))
        return f"{self._channel}-{tag}"

    def _take_token(self) -> tuple[list[str], list[Any]]:
        return [self._keys.token(0), self._keys.fence(0)], [self._rng.choice((0, 0, self._token, self._token + 3))]

    def _raise_fence(self) -> tuple[list[str], list[Any]]:
        return [self._keys.fence(0)], [self._token + self._rng.choice((-1, 0, 0, 1))]

    def _subscribe(self) -> tuple[list[str], list[Any]]:
        keys, destination, rng = self._keys, self._rng.choice(self._destinations), self._rng
        names = [keys.sessions("u"), keys.meta("u", destination), keys.log("u", destination), keys.destinations("u")]
        args = [rng.choice(self._sids), rng.choice(self._incarnations), str(destination), HOUR, HOUR, 2]
        return names, [*args, rng.choice((1, 2)), rng.choice(("", *self._newest[-3:], "1-1", f"{self.now}-3"))]

    def _read_page(self) -> tuple[list[str], list[Any]]:
        rng = self._rng
        args = [rng.choice(self._newest[-6:]), rng.choice((1, 3, 5)), rng.choice((1, 12, 20, 99))]
        return [self._keys.log("u", rng.choice(self._destinations))], args

    def _unsubscribe(self) -> tuple[list[str], list[Any]]:
        return [self._keys.sessions("u")], [self._rng.choice(self._sids), str(self._rng.choice(self._destinations))]

    def _register(self) -> tuple[list[str], list[Any]]:
        entry = SessionEntry(Incarnation.parse(self._rng.choice(self._incarnations))).encode()
        return [self._keys.sessions("u")], [self._rng.choice(self._sids), entry, HOUR, 2]

    def _remove_session(self) -> tuple[list[str], list[Any]]:
        return [self._keys.sessions("u")], [self._rng.choice(self._sids), self._rng.choice(self._incarnations)]

    def _advance_cursor(self) -> tuple[list[str], list[Any]]:
        destination = self._rng.choice(self._destinations)
        cursor = self._rng.choice(self._newest[-6:])
        sent = self._rng.choice((cursor, *self._newest[-6:]))
        names = [self._keys.meta("u", destination), self._keys.log("u", destination)]
        return names, [cursor, sent, self._window_ms, 1_000]

    def _renew_lease(self) -> tuple[list[str], list[Any]]:
        return [self._keys.gateways], [self._rng.choice(self._incarnations), 8_000, 3_000]

    def _forget(self) -> tuple[list[str], list[Any]]:
        destination = self._rng.choice(self._destinations)
        names = [self._keys.meta("u", destination), self._keys.log("u", destination), self._keys.destinations("u")]
        return names, [str(destination)]

    def _add_members(self) -> tuple[list[str], list[Any]]:
        incarnation = Incarnation.parse(self._rng.choice(self._incarnations))
        return [self._keys.gateway(incarnation)], [encode_member("u", sid) for sid in self._rng.sample(self._sids, 2)]

    def _barrier(self) -> tuple[list[str], list[Any]]:
        return [self._keys.barrier], []

    def _expire_leases(self) -> tuple[list[str], list[Any]]:
        return [self._keys.gateways], self._rng.sample(self._incarnations, self._rng.choice((1, 2)))


@pytest.mark.parametrize("seed", range(20))
async def test_the_model_of_the_scripts_answers_as_the_scripts_do(seed: int, redis_url: str) -> None:
    caller, model = Caller(random.Random(seed)), Keyspace()
    redis: Any = connect(redis_url, name="keyspace")
    try:
        for number in range(CALLS):
            script, keys, args = caller.next_call()
            source = _with_simulated_time(script.source())
            await redis.delete(CLOCK, EXPIRIES)
            await redis.rpush(CLOCK, caller.now // 1_000, caller.now % 1_000 * 1_000)
            try:
                real = await redis.eval(source, len(keys), *keys, *args)
            except Exception as error:
                real = str(error)
            model.expiries.clear()
            modelled = model.run(script, keys, args, caller.now)
            # redis-py leaves this code out of an error's text.
            said = str(modelled).removeprefix("ERR ") if isinstance(modelled, Exception) else modelled
            assert _sorted(said) == _sorted(real), f"call {number}: {script} {keys} {args}"
            noted = {key.decode(): int(at) for key, at in (await redis.hgetall(EXPIRIES)).items()}
            modelled_expiries = {key: at for key, (at, _) in model.expiries.items()}
            assert modelled_expiries == {key: at for key, at in noted.items() if ":log:" in key}, f"call {number}"
            if script in (Script.APPEND, Script.ADVANCE_CURSOR):
                assert _ids_of(model, keys) == await _read_ids(redis, keys), f"call {number}: {script} {args}"
            caller.note(script, real)
    finally:
        await redis.aclose()


def _ids_of(model: Keyspace, keys: list[str]) -> list[str]:
    """What the meta and the log of a call hold: cursor, sent, and the entries."""
    meta, log = model.data.get(keys[0], {}), model.data.get(keys[1], [])
    return [*(str(meta.get(name, "")) for name in ("cursor", "sent")), *(str(item.id) for item in log)]


async def _read_ids(redis: Any, keys: list[str]) -> list[str]:
    ids = [*await redis.hmget(keys[0], ["cursor", "sent"]), *(id_ for id_, _ in await redis.xrange(keys[1]))]
    return [(id_ or b"").decode() for id_ in ids]


def _encode(argument: Any) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


def _with_simulated_time(source: str) -> str:
    """Return the script with another clock; what is to expire is noted alone, because Redis would do it by its own."""
    shebang, _, rest = source.partition("\n")
    rest = rest.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)")
    rest = rest.replace("redis.call('PEXPIRE'", "note_expiry('PEXPIRE'")
    return f"{shebang}\n{_NOTE_EXPIRY}{rest}"


def _sorted(reply: Any) -> Any:
    """Sessions come in no order."""
    if isinstance(reply, list) and len(reply) >= 5:
        return [*reply[:3], sorted(reply[3].splitlines()), *reply[4:]]
    return reply
