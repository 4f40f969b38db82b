"""Appending against a Redis that is played: it keeps logs, and refuses commands when it is told to."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, ResponseError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.outcomes import ReplyAddress
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.log.entries import (
    Appended,
    AppendRefused,
    StaleToken,
    parse_sessions,
    parse_without_queue,
)
from pushcluster_dispatcher.log.interfaces import Wire
from pushcluster_dispatcher.log.user_log import LARGE_ROUND_BYTES, Fence, UserLog
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.client import DIGESTS

DEMO = Destination("queue", "demo")
KEYS = Keys("ns.demo")
FENCE = Fence(3, 17)
SID = "abcdefghijklmnopqrstuvwxyz"
Errors = Callable[[], Exception | None]


class PlayedRedis:
    """Runs APPEND as Redis does: MULTI refuses its whole group when a command of it was refused."""

    def __init__(self, next_error: Errors = lambda: None) -> None:
        self.logs: dict[bytes, list[bytes]] = {}
        self.sessions: dict[bytes, bytes] = {}
        self.loaded: list[bytes] = []
        self.commands: list[list[bytes]] = []
        self.writes = 0
        self.run_id = "life1"
        self._next_error = next_error

    async def execute(self, commands: Sequence[bytes]) -> list[Any]:
        self.writes += 1
        replies: list[Any] = []
        queued: list[list[bytes]] | None = None
        refused = False
        for packed in commands:
            command = parse(packed)
            if command[0] == b"MULTI":
                queued, refused = [], False
                replies.append(b"OK")
            elif command[0] == b"EXEC":
                group, queued = queued or [], None
                replies.append(Unavailable("EXECABORT") if refused else [self._append(each) for each in group])
            elif command[0] == b"SCRIPT":
                self.loaded.append(command[2])
                replies.append(b"sha")
            elif command[0] == b"PEXPIRE":
                self.commands.append(command)
                replies.append(1)
            elif error := self._next_error():
                refused = True
                replies.append(error)
            elif queued is not None:
                queued.append(command)
                replies.append(b"QUEUED")
            else:
                replies.append(self._append(command))
        return replies

    def _append(self, command: list[bytes]) -> list[Any]:
        self.commands.append(command)
        keys = command[3 : 3 + int(command[2])]
        log = self.logs.setdefault(keys[1], [])
        log.append(command[3 + len(keys)])
        return [b"1700000000000-%d" % len(log), 0, 0, self.sessions.get(keys[2], b""), 0]


def parse(packed: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(packed)
    command: list[bytes] = reader.gets()
    assert not reader.has_data(), "each command ends where it says"
    return command


def user_log(redis: Wire, slept: list[float] | None = None) -> UserLog:
    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    retention = Retention(86_400_000, 1_000, 120_000, 600_000)
    return UserLog(redis, KEYS, retention, FENCE, backoff=Backoff(lambda: 1.0), sleep=sleep)


async def append(
    log: UserLog, messages: Sequence[Message], *on_part: Callable[[Mapping[int, Any]], Awaitable[None]]
) -> list[Appended | AppendRefused]:
    return await log.append(messages, [b"%d-%d" % (FENCE.token, n + 1) for n in range(len(messages))], *on_part)


def message(user: str, body: str, destination: Destination = DEMO, **fields: Any) -> Message:
    return Message(user, destination, body.encode(), **fields)


def bodies(redis: PlayedRedis, user: str, destination: Destination = DEMO) -> list[str]:
    return [body.decode() for body in redis.logs.get(KEYS.log(user, destination).encode(), [])]


def in_turn(*errors: Exception | None) -> Errors:
    waiting = list(errors)
    return lambda: waiting.pop(0) if waiting else None


async def test_a_batch_is_one_write_and_its_answers_are_in_the_order_of_its_messages() -> None:
    redis = PlayedRedis()
    results = await append(user_log(redis), [message("a", "1"), message("b", "2"), message("a", "3")])
    assert redis.writes == 1
    assert [result.stream_id for result in results if isinstance(result, Appended)] == [
        b"1700000000000-1",
        b"1700000000000-1",
        b"1700000000000-2",
    ]
    assert bodies(redis, "a") == ["1", "3"]


async def test_sessions_come_back_as_they_are_and_unreadable_ones_are_left_out_when_they_are_parsed() -> None:
    redis = PlayedRedis()
    gateway = Incarnation("pod", "0" * 16)
    raw = b"\n".join((f"{SID} {gateway}".encode(), b"x" * 26 + b" \xffgarbage", b"short " + str(gateway).encode()))
    redis.sessions[KEYS.sessions("a").encode()] = raw
    (result,) = await append(user_log(redis), [message("a", "1")])
    assert isinstance(result, Appended)
    assert result.sessions == raw
    assert parse_sessions(result.sessions) == {SID: gateway}


def test_a_session_without_a_queue_is_read_with_its_gateway_like_any_other() -> None:
    gateway, other = Incarnation("pod", "0" * 16), "b" * 26
    raw = f"{SID} {gateway} -\n{other} {gateway}".encode()
    assert parse_sessions(raw) == {SID: gateway, other: gateway}
    assert parse_without_queue(raw) == {SID}
    assert parse_without_queue(f"{other} {gateway}".encode()) == frozenset()


async def test_ids_are_kept_for_a_whole_window_in_one_write_where_there_are_any() -> None:
    redis = PlayedRedis()
    await user_log(redis).keep_ids(
        [message("a", "1", message_id="x"), message("a", "2"), message("b", "3", message_id="y")]
    )
    assert redis.writes == 1
    assert redis.commands == [
        [b"PEXPIRE", KEYS.message(user, DEMO, id_).encode(), b"600000"] for user, id_ in (("a", "x"), ("b", "y"))
    ]
    await user_log(redis).keep_ids([message("a", "1")])
    assert redis.writes == 1


async def test_messages_of_one_user_hold_one_list_of_its_sessions() -> None:
    class Copying(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            stream_id, *rest = super()._append(command)
            return [stream_id, 0, 0, bytes(bytearray(b"the same")), rest[-1]]

    first, second = await append(user_log(Copying()), [message("a", "1"), message("a", "2")])
    assert isinstance(first, Appended)
    assert isinstance(second, Appended)
    assert first.sessions is second.sessions


@pytest.mark.parametrize(("size", "most"), [(0, 500), (LARGE_ROUND_BYTES // 200, 250)])
async def test_users_with_many_sessions_make_for_smaller_round_trips(size: int, most: int) -> None:
    rounds: list[int] = []

    class Counting(PlayedRedis):
        async def execute(self, commands: Sequence[bytes]) -> list[Any]:
            rounds.append(len(commands))
            return await super().execute(commands)

    redis = Counting()
    messages = [message(f"u{n}", "x") for n in range(500)]
    redis.sessions = {KEYS.sessions(each.user).encode(): b"x" * size for each in messages}
    log = user_log(redis)
    await append(log, messages)
    del rounds[:]
    for _ in range(3):
        await append(log, messages)
    assert sum(rounds) == 3 * 500
    assert max(rounds) == most


async def test_the_key_of_a_message_id_is_given_only_when_there_is_one() -> None:
    seen: list[list[bytes]] = []

    class Spying(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            seen.append(command)
            return super()._append(command)

    await append(user_log(Spying()), [message("a", "1", message_id="m", ttl_ms=5, headers={"x-a": "b"})])
    (command,) = seen
    assert command[2:9] == [
        b"7",
        KEYS.meta("a", DEMO).encode(),
        KEYS.log("a", DEMO).encode(),
        KEYS.sessions("a").encode(),
        KEYS.destinations("a").encode(),
        KEYS.fence(3).encode(),
        KEYS.recipients("a", DEMO).encode(),
    ]
    assert command[9:15] == [KEYS.message("a", DEMO, "m").encode(), b"1", b'{"x-a":"b"}', b"", b"m", b"5"]
    assert command[-4:] == [b"/queue/demo", b"17", b"17-1", b"600000"]


async def test_every_argument_stands_where_the_script_reads_it() -> None:
    redis = PlayedRedis()
    retention = Retention(1_001, 1_002, 1_000_003, 1_004)
    given = message(
        "a", "body", message_id="m", content_type="t", ttl_ms=5, headers={"x-a": "ä"}, reply=ReplyAddress("q", "c")
    )
    await append(UserLog(redis, KEYS, retention, FENCE, backoff=Backoff(lambda: 1.0)), [given])
    (command,) = redis.commands
    header = [line for line in Script.APPEND.source().splitlines() if line.startswith("--")]
    assert len([line for line in header if re.search(r"ARGV\[15\] where the producer wants outcomes", line)]) == 1
    assert command == [
        b"EVALSHA",
        DIGESTS[Script.APPEND].encode(),
        b"7",
        KEYS.meta("a", DEMO).encode(),
        KEYS.log("a", DEMO).encode(),
        KEYS.sessions("a").encode(),
        KEYS.destinations("a").encode(),
        KEYS.fence(3).encode(),
        KEYS.recipients("a", DEMO).encode(),
        KEYS.message("a", DEMO, "m").encode(),
        b"body",
        '{"x-a":"ä"}'.encode(),
        b"t",
        b"m",
        b"5",
        b"1002",  # most entries
        b"1001",  # ms for an offline user
        b"1000003",  # ms after it was delivered
        b"604801001",  # ms of the meta: a week more than the log
        b"1004",  # ms of a message id
        b"/queue/demo",
        b"17",  # the fencing token
        b"17-1",  # the attempt
        b"600000",  # ms of the sessions hash
        b'["q","c"]',
    ]


async def test_ids_are_kept_for_the_window_of_ids() -> None:
    redis = PlayedRedis()
    log = UserLog(redis, KEYS, Retention(1_001, 1_002, 1_003, 1_004), FENCE, backoff=Backoff(lambda: 1.0))
    await log.keep_ids([message("a", "1", message_id="m")])
    assert redis.commands == [[b"PEXPIRE", KEYS.message("a", DEMO, "m").encode(), b"1004"]]


async def test_what_the_script_answers_is_read_field_by_field() -> None:
    class Answering(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            super()._append(command)
            return [b"5-7", 0, 3, b"sessions", 99]

    assert await append(user_log(Answering()), [message("a", "1")]) == [
        Appended(b"5-7", known=False, dropped=3, sessions=b"sessions", expires_ms=99, held=None)
    ]


async def test_the_pause_between_attempts_starts_over_with_the_next_batch() -> None:
    full = Unavailable("OOM")
    slept: list[float] = []
    log = user_log(PlayedRedis(in_turn(full, full, None, full)), slept)
    await append(log, [message("a", "1")])
    await append(log, [message("a", "2")])
    assert slept == [0.1, 0.2, 0.1]


async def test_that_redis_takes_nothing_is_warned_of_once_each_time(caplog: pytest.LogCaptureFixture) -> None:
    full = Unavailable("OOM")
    log = user_log(PlayedRedis(in_turn(full, full, None, full)))
    for times in (1, 2):
        await append(log, [message("a", "1")])
        assert len(caplog.records) == times


async def test_round_trips_are_halved_while_redis_is_full_and_grow_again_to_the_prefetch() -> None:
    rounds: list[int] = []

    class Counting(PlayedRedis):
        async def execute(self, commands: Sequence[bytes]) -> list[Any]:
            rounds.append(len(commands))
            return await super().execute(commands)

    log = user_log(Counting(in_turn(*[Unavailable("OOM")] * 250)))
    await append(log, [message(f"u{n}", "x") for n in range(1_500)])
    assert rounds == [250, 125, 250, 500, 500, 125]


async def test_where_outcomes_are_wanted_is_given_only_when_they_are() -> None:
    redis = PlayedRedis()
    await append(user_log(redis), [message("a", "1"), message("a", "2", reply=ReplyAddress("q", "c"))])
    silent, asking = redis.commands
    assert silent[-4:] == [b"/queue/demo", b"17", b"17-1", b"600000"]
    assert asking[-5:] == [b"/queue/demo", b"17", b"17-2", b"600000", b'["q","c"]']


async def test_a_message_with_nothing_more_is_packed_as_any_other() -> None:
    seen: list[list[bytes]] = []

    class Spying(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            seen.append(command)
            return super()._append(command)

    for ttl_ms in (0, 5):
        await append(user_log(Spying()), [message("a", "1", ttl_ms=ttl_ms)])
    plain, other = seen
    assert plain[13] == b"0"
    assert [*plain[:13], b"5", *plain[14:]] == other


async def test_what_redis_cannot_take_now_is_repeated_until_it_does() -> None:
    full = Unavailable("OOM")
    slept: list[float] = []
    redis = PlayedRedis(in_turn(None, full, full, full))
    results = await append(user_log(redis, slept), [message("a", "1"), message("b", "2")])
    assert [type(result) for result in results] == [Appended, Appended]
    assert (bodies(redis, "a"), bodies(redis, "b")) == (["1"], ["2"])
    assert slept == [0.1, 0.2, 0.4]


async def test_what_was_appended_is_told_of_once_while_the_rest_waits() -> None:
    full = Unavailable("OOM")
    parts: list[list[int]] = []

    async def note(part: Mapping[int, Appended | AppendRefused]) -> None:
        parts.append(list(part))

    redis = PlayedRedis(in_turn(None, full, None, full, full))
    results = await append(user_log(redis), [message(user, "1") for user in "abcd"], note)
    assert [type(result) for result in results] == [Appended] * 4
    assert parts == [[0, 2], [3]]


@pytest.mark.parametrize("users", ["a", "ab", "abc"])
async def test_a_batch_that_never_fits_is_appended_in_smaller_ones(users: str) -> None:
    class Small(PlayedRedis):
        """What waits in a connection leaves room for two calls at once."""

        async def execute(self, commands: Sequence[bytes]) -> list[Any]:
            calls = [command for command in commands if parse(command)[0] == b"EVALSHA"]
            self._next_error = in_turn(*([Unavailable("OOM")] * len(calls) if len(calls) > 2 else []))
            return await super().execute(commands)

    redis = Small()
    messages = [message(users[n % len(users)], str(n)) for n in range(50)]
    results = await append(user_log(redis), messages)
    assert all(isinstance(result, Appended) for result in results)
    for start, user in enumerate(users):
        assert bodies(redis, user) == [str(n) for n in range(start, 50, len(users))]


async def test_a_message_that_redis_will_never_take_is_refused_and_the_rest_goes_on() -> None:
    redis = PlayedRedis(in_turn(None, ResponseError("WRONGTYPE Operation against a key"), None))
    results = await append(user_log(redis), [message("a", "1"), message("b", "2"), message("c", "3")])
    assert results[1] == AppendRefused("Redis: WRONGTYPE Operation against a key")
    assert (bodies(redis, "a"), bodies(redis, "b"), bodies(redis, "c")) == (["1"], [], ["3"])


async def test_another_message_under_a_known_id_is_refused_as_such() -> None:
    class Knowing(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            super()._append(command)
            return [b"5-7", 2, 0, b"", 0]

    (result,) = await append(user_log(Knowing()), [message("a", "1", message_id="m")])
    assert isinstance(result, AppendRefused)
    assert (result.other_body, "5-7" in result.reason) == (True, True)


async def test_what_the_log_has_of_a_known_message_comes_with_it() -> None:
    class Knowing(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            super()._append(command)
            return [b"5-7", 1, 0, b"", 0, b"a/b", b"{}"]

    assert await append(user_log(Knowing()), [message("a", "1", message_id="m")]) == [
        Appended(b"5-7", known=True, dropped=0, sessions=b"", expires_ms=0, held=(b"a/b", b"{}"))
    ]


async def test_of_a_known_message_it_comes_whether_a_session_has_got_it() -> None:
    class Knowing(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            super()._append(command)
            return [b"5-7", 4, 0, b"", 0]

    assert await append(user_log(Knowing()), [message("a", "1", message_id="m")]) == [
        Appended(b"5-7", known=True, dropped=0, sessions=b"", expires_ms=0, held=None, got=True)
    ]


async def test_a_message_that_this_attempt_has_appended_before_is_told_from_one_with_a_known_id() -> None:
    class Knowing(PlayedRedis):
        def _append(self, command: list[bytes]) -> list[Any]:
            super()._append(command)
            return [b"5-7", 3, 0, b"", 99, b"a/b", b"{}"] if len(self.commands) == 1 else [b"", 3, 0, b"", 0]

    assert await append(user_log(Knowing()), [message("a", "1"), message("b", "2")]) == [
        Appended(b"5-7", True, 0, b"", 99, held=(b"a/b", b"{}"), made_before=True),
        Appended(b"", True, 0, b"", 0, held=None, made_before=True),
    ]


@pytest.mark.parametrize("bodies_of", ["aa", "ab"])
async def test_a_token_that_is_too_old_ends_the_append_at_once(bodies_of: str) -> None:
    """In a group or alone. What was appended before is told of, because its copies may go."""
    stale = ResponseError("STALE token 17, another one has appended since")

    class Fenced(PlayedRedis):
        def _append(self, command: list[bytes]) -> Any:
            return super()._append(command) if command[-2] == b"17-1" else stale

    parts: list[list[int]] = []

    async def note(part: Mapping[int, Appended | AppendRefused]) -> None:
        parts.append(list(part))

    redis, slept = Fenced(), []  # type: ignore[var-annotated]
    with pytest.raises(StaleToken, match="STALE token 17"):
        await append(user_log(redis, slept), [message(user, str(n)) for n, user in enumerate(bodies_of)], note)
    assert (redis.writes, slept, parts) == (1, [], [[0]])


async def test_an_error_that_nobody_knows_is_repeated_and_never_skips_the_message() -> None:
    redis = PlayedRedis(in_turn(ResponseError("NEWCODE of some later version")))
    results = await append(user_log(redis), [message("a", "1")])
    assert isinstance(results[0], Appended)


async def test_a_forgotten_script_is_loaded_and_the_calls_are_made_again_without_a_pause() -> None:
    slept: list[float] = []
    redis = PlayedRedis(in_turn(NoScriptError("NOSCRIPT")))
    results = await append(user_log(redis, slept), [message("a", "1")])
    assert isinstance(results[0], Appended)
    assert len(redis.loaded) == 1
    assert slept == []


async def test_a_lost_connection_ends_the_append() -> None:
    class Lost(PlayedRedis):
        async def execute(self, commands: Sequence[bytes]) -> list[Any]:
            raise Unavailable(f"gone with {len(commands)} commands")

    with pytest.raises(Unavailable, match="gone"):
        await append(user_log(Lost()), [message("a", "1")])


@given(
    users=st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
    refusals=st.lists(st.booleans(), max_size=60),
)
async def test_no_message_overtakes_another_of_its_user_however_often_redis_fails(
    users: list[str], refusals: list[bool]
) -> None:
    redis = PlayedRedis(in_turn(*(Unavailable("OOM") if refuse else None for refuse in refusals)))
    messages = [message(user, str(n)) for n, user in enumerate(users)]
    await append(user_log(redis), messages)
    for user in set(users):
        assert bodies(redis, user) == [str(n) for n, each in enumerate(users) if each == user]
