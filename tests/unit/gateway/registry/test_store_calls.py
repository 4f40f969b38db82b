"""What the registry asks Redis for: every key, every argument, and what is written first."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import SESSION_ID_CHARS, Incarnation, StreamId
from pushcluster_contract.keys import Keys, encode_member
from pushcluster_contract.limits import LEASE_MS, MAX_TRIMMED_ENTRIES, META_EXTRA_TTL_MS, SESSIONS_TTL_MS
from pushcluster_contract.log_entry import LogEntry
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_gateway.registry.store import CursorMove, Renewal, SessionRegistry
from pushcluster_gateway.session.delivery import LogPage, LogState, ReadPage
from pushcluster_gateway.session.errors import TooManySessions
from pushcluster_runtime.redis.client import Argument, Call, ScriptRunner
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation

DEMO: Final = Destination("queue", "demo")
KEYS: Final = Keys("ns.demo")
OWN, SIBLING, STRANGER = (Incarnation(pod, char * 16) for pod, char in (("pod-1", "a"), ("pod-1", "b"), ("pod-2", "c")))
SID, OTHER_SID = "s" * SESSION_ID_CHARS, "t" * SESSION_ID_CHARS
KEPT_MS, MAX_SESSIONS, LOST_MS = 11_000, 7, 60_000
"""Three values that nobody takes for one another."""

ONE_ENTRY: Final = ReadPage(StreamId(0, 0), 1, 1, 1)

Asked = tuple[Any, ...]


class Pipeline:
    """Notes its commands when they are sent, and answers each."""

    def __init__(self, redis: "RecordingRedis") -> None:
        self._redis = redis
        self._commands: list[Asked] = []

    async def __aenter__(self) -> "Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: self._commands.append((name, *args, *sorted(options.items())))

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        replies = [await self._redis.command(*command) for command in self._commands]
        for error in (reply for reply in replies if raise_on_error and isinstance(reply, Exception)):
            raise error
        return replies


class RecordingRedis:
    """A client and a script runner in one: it notes what it is asked, in order, and holds sessions, sets and leases."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[object, Any] = {}
        """By script or command: what is answered instead of what this fake would say."""
        self.sessions: dict[str, dict[str, str]] = {}
        self.members: dict[str, set[str]] = {}
        self.leases: list[str] = []
        self.without_broker: dict[str, str] = {}
        self.writes_left: int | None = None
        """After so many more calls Redis is away; None: never."""

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        (reply,) = await self.run_many(script, [Call(keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        return [await self.command(script, list(call.keys), list(call.args)) for call in calls]

    async def srem(self, key: str, *members: str) -> Any:
        return await self.command("srem", key, *members)

    async def hset(self, key: str, field: str, value: str) -> Any:
        reply = await self.command("hset", key, field, value)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def hdel(self, key: str, *fields: str) -> Any:
        return await self.command("hdel", key, *fields)

    async def zrem(self, key: str, lease: str) -> Any:
        return await self.command("zrem", key, lease)

    async def srandmember(self, key: str, count: int) -> list[bytes]:
        return [member.encode() for member in sorted(self.members.get(key, ()))][:count]

    async def zrange(self, key: str, first: int, last: int) -> Any:
        return await self.command("zrange", key, first, last)

    async def xrange(self, key: str, first: str, last: str) -> Any:
        return await self.command("xrange", key, first, last)

    async def command(self, name: object, *args: Any) -> Any:
        if self.writes_left == 0:
            raise Unavailable("away")
        if self.writes_left is not None:
            self.writes_left -= 1
        self.asked.append((name, *args))
        return self.answers[name] if name in self.answers else self._apply(name, args)

    def _apply(self, name: object, args: Sequence[Any]) -> Any:
        match name, *args:
            case Script.ADD_MEMBERS, [key], members:
                self.members.setdefault(key, set()).update(members)
            case "srem", key, *members:
                self.members.get(key, set()).difference_update(
                    each.decode() if isinstance(each, bytes) else each for each in members
                )
            case Script.REGISTER, [key], [sid, entry, *_]:
                self.sessions.setdefault(key, {})[sid] = entry
                return 1
            case Script.REMOVE_SESSION, [key], [sid, incarnation]:
                if self.sessions.get(key, {}).get(sid, "").split(" ")[0] == incarnation:
                    del self.sessions[key][sid]
                    return 1
                return 0
            case "hdel", KEYS.without_broker, *fields:
                for each in fields:
                    self.without_broker.pop(each, None)
            case "zrem", _, lease if lease in self.leases:
                self.leases.remove(lease)
        return None


@pytest.fixture
def redis() -> RecordingRedis:
    return RecordingRedis()


@pytest.fixture
def registry(redis: RecordingRedis) -> SessionRegistry:
    return SessionRegistry(
        cast(Redis, redis),
        cast(ScriptRunner, redis),
        KEYS,
        OWN,
        kept_delivered_ms=KEPT_MS,
        max_sessions_per_user=MAX_SESSIONS,
        lost_gateway_ms=LOST_MS,
    )


ADD_MEMBER: Final = (Script.ADD_MEMBERS, [KEYS.gateway(OWN)], [encode_member("alice", SID)])
ADVANCE_MOVE: Final = CursorMove("alice", DEMO, StreamId(1, 2), StreamId(3, 4))
ADVANCE: Final = (
    Script.ADVANCE_CURSOR,
    [KEYS.meta("alice", DEMO), KEYS.log("alice", DEMO)],
    ["1-2", "3-4", KEPT_MS, MAX_TRIMMED_ENTRIES],
)


@pytest.mark.parametrize(
    ("act", "asked"),
    [
        pytest.param(
            lambda registry: registry.register("alice", SID),
            [
                ADD_MEMBER,
                (
                    Script.REGISTER,
                    [KEYS.sessions("alice")],
                    [SID, SessionEntry(OWN).encode(), SESSIONS_TTL_MS, MAX_SESSIONS],
                ),
            ],
            id="register",
        ),
        pytest.param(
            lambda registry: registry.leave("alice", SID),
            [
                (Script.REMOVE_SESSION, [KEYS.sessions("alice")], [SID, str(OWN)]),
                ("srem", KEYS.gateway(OWN), encode_member("alice", SID)),
            ],
            id="leave",
        ),
        pytest.param(lambda registry: registry.refresh_member("alice", SID), [ADD_MEMBER], id="refresh_member"),
        pytest.param(
            lambda registry: registry.unsubscribe("alice", SID, DEMO),
            [(Script.UNSUBSCRIBE, [KEYS.sessions("alice")], [SID, "/queue/demo"])],
            id="unsubscribe",
        ),
        pytest.param(lambda registry: registry.advance_cursor(ADVANCE_MOVE), [ADVANCE], id="advance_cursor"),
        pytest.param(
            lambda registry: registry.advance_cursors([ADVANCE_MOVE] * 2), [ADVANCE, ADVANCE], id="advance_cursors"
        ),
    ],
)
async def test_each_write_names_every_key_and_argument_in_the_order_that_a_clean_up_needs(
    redis: RecordingRedis,
    registry: SessionRegistry,
    act: Callable[[SessionRegistry], Awaitable[None]],
    asked: list[Asked],
) -> None:
    await act(registry)
    assert redis.asked == asked


async def test_a_subscription_gets_each_number_of_the_reply_in_its_own_field(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    redis.answers[Script.SUBSCRIBE] = [1, 2, 3, b"4-5", b"6-7", 8, 9, b"10-11"]
    state, now_ms = await registry.subscribe("alice", SID, DEMO, without_queue=True, given=StreamId(12, 13))
    assert state == LogState(
        born_ms=1,
        newest=StreamId(2, 3),
        cursor=StreamId(4, 5),
        sent=StreamId(6, 7),
        oldest_seq=8,
        now_ms=9,
        held=StreamId(10, 11),
    )
    assert now_ms == 9
    keys = [KEYS.sessions("alice"), KEYS.meta("alice", DEMO), KEYS.log("alice", DEMO), KEYS.destinations("alice")]
    arguments = [SID, str(OWN), "/queue/demo", SESSIONS_TTL_MS, META_EXTRA_TTL_MS, MAX_SESSIONS]
    assert redis.asked == [(Script.SUBSCRIBE, keys, [*arguments, 2, "12-13"])]
    redis.answers[Script.SUBSCRIBE] = [1, 2, 3, b"4-5", b"6-7", 8, 9, b""]
    state, _ = await registry.subscribe("alice", SID, DEMO, without_queue=False)
    assert (state.held, redis.asked[-1]) == (None, (Script.SUBSCRIBE, keys, [*arguments, 1, ""]))


async def test_one_session_too_many_is_told_as_such_and_other_errors_pass(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    redis.answers[Script.REGISTER] = 0
    with pytest.raises(TooManySessions, match=str(MAX_SESSIONS)):
        await registry.register("alice", SID)
    redis.answers[Script.SUBSCRIBE] = ResponseError("TOOMANYSESSIONS the user has 7 sessions")
    with pytest.raises(TooManySessions, match=str(MAX_SESSIONS)):
        await registry.subscribe("alice", SID, DEMO, without_queue=True)
    redis.answers[Script.SUBSCRIBE] = ResponseError("WRONGTYPE")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await registry.subscribe("alice", SID, DEMO, without_queue=True)


async def test_a_renewal_asks_for_the_lease_and_tells_what_redis_answered(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    redis.answers |= {Script.RENEW_LEASE: 1, "info": {"run_id": "r1"}, "zcard": 3, "time": (7, 8_000)}
    assert await registry.renew_lease(0.0) == Renewal(existed=True, run_id="r1", gateways=3)
    assert redis.asked == [
        (Script.RENEW_LEASE, [KEYS.gateways], [str(OWN), LEASE_MS, LOST_MS]),
        ("info", "server"),
        ("zcard", KEYS.gateways),
        ("time",),
        ("hdel", KEYS.without_broker, str(OWN)),
    ]
    redis.answers[Script.RENEW_LEASE] = 0
    assert not (await registry.renew_lease(0.0)).existed


async def test_while_rabbitmq_is_away_a_renewal_tells_the_operator_since_when(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    redis.answers |= {Script.RENEW_LEASE: 1, "info": {"run_id": "r1"}, "zcard": 3, "time": (70, 8_900)}
    assert await registry.renew_lease(4.5) == Renewal(existed=True, run_id="r1", gateways=3)
    assert redis.asked[1:] == [
        ("info", "server"),
        ("zcard", KEYS.gateways),
        ("time",),
        ("hset", KEYS.without_broker, str(OWN), "65508"),
    ]


async def test_a_redis_that_takes_no_word_of_rabbitmq_still_renews_the_lease(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    redis.answers |= {Script.RENEW_LEASE: 1, "info": {"run_id": "r1"}, "zcard": 3, "time": (70, 8_900)}
    redis.answers["hset"] = OutOfMemoryError("OOM command not allowed")
    assert await registry.renew_lease(4.5) == Renewal(existed=True, run_id="r1", gateways=3)


@pytest.mark.parametrize("cut", [0, 1])
async def test_a_page_of_the_log_begins_after_what_the_client_has_and_ends_at_its_limits(
    redis: RecordingRedis, registry: SessionRegistry, cut: int
) -> None:
    redis.answers[Script.READ_PAGE] = [cut, [[b"5-1", [b"b", b"one", b"t", b"a/b"]], [b"5-2", [b"b", b"two"]]]]
    page = await registry.read_page("alice", DEMO, ReadPage(StreamId(4, 9), 100, 5_000, 1))
    one, two = LogEntry(StreamId(5, 1), b"one", "a/b", headers={}), LogEntry(StreamId(5, 2), b"two", headers={})
    assert page == LogPage([one, two], cut=bool(cut))
    assert redis.asked == [(Script.READ_PAGE, [KEYS.log("alice", DEMO)], ["4-9", 100, 5_000])]


async def test_one_entry_is_read_by_its_id_and_may_be_gone(redis: RecordingRedis, registry: SessionRegistry) -> None:
    redis.answers["xrange"] = [(b"5-1", {b"b": b"one"})]
    entry = await registry.read_entry("alice", DEMO, StreamId(5, 1))
    assert entry == LogEntry(StreamId(5, 1), b"one", headers={})
    assert redis.asked == [("xrange", KEYS.log("alice", DEMO), "5-1", "5-1")]
    redis.answers["xrange"] = []
    assert await registry.read_entry("alice", DEMO, StreamId(5, 1)) is None


async def test_a_page_that_redis_refuses_is_its_readers_error_alone(
    redis: RecordingRedis, registry: SessionRegistry
) -> None:
    for error in (Unavailable("Redis: LOADING"), ResponseError("WRONGTYPE")):
        redis.answers[Script.READ_PAGE] = error
        with pytest.raises(type(error), match=str(error)):
            await registry.read_page("alice", DEMO, ONE_ENTRY)


async def test_of_many_cursors_the_error_that_time_can_mend_is_raised_first(registry: SessionRegistry) -> None:
    replies: list[Any] = [1, ResponseError("WRONGTYPE"), Unavailable("away")]

    async def run_many(script: Script, calls: Sequence[Call]) -> list[Any]:
        return replies

    registry._scripts.run_many = run_many  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await registry.advance_cursors([ADVANCE_MOVE] * 3)
    replies.pop()
    with pytest.raises(ResponseError):
        await registry.advance_cursors([ADVANCE_MOVE] * 2)
    replies.pop()
    await registry.advance_cursors([ADVANCE_MOVE])


class TestCrashes:
    """Each step of `register` and `leave` may be the last one. A clean-up finds sessions by the gateway's set alone."""

    @pytest.mark.parametrize("writes", [0, 1, 2])
    async def test_a_clean_up_finds_what_a_crash_while_registering_left(
        self, redis: RecordingRedis, registry: SessionRegistry, writes: int
    ) -> None:
        await self.crash(redis, registry.register("alice", SID), writes)
        assert await self.clean_up(redis) == (1 if writes == 2 else 0)

    @pytest.mark.parametrize("writes", [0, 1, 2])
    async def test_a_clean_up_finds_what_a_crash_while_leaving_left(
        self, redis: RecordingRedis, registry: SessionRegistry, writes: int
    ) -> None:
        await registry.register("alice", SID)
        await self.crash(redis, registry.leave("alice", SID), writes)
        assert await self.clean_up(redis) == (1 if writes == 0 else 0)

    async def crash(self, redis: RecordingRedis, act: Awaitable[None], writes: int) -> None:
        redis.writes_left = writes
        if writes < 2:
            with pytest.raises(Unavailable):
                await act
        else:
            await act
        redis.writes_left = None

    async def clean_up(self, redis: RecordingRedis) -> int:
        """Remove what can be found, as the operator does, and see that nothing is left."""
        removed = await remove_incarnation(cast(Redis, redis), cast(ScriptRunner, redis), KEYS, OWN)
        assert not any(redis.sessions.values()), "nobody would ever find this session"
        assert not any(redis.members.values())
        return removed


class TestSiblings:
    async def test_only_earlier_processes_of_the_same_pod_are_removed(
        self, redis: RecordingRedis, registry: SessionRegistry
    ) -> None:
        redis.leases = [str(each) for each in (SIBLING, STRANGER, OWN)]
        redis.answers["zrange"] = [each.encode() for each in redis.leases] + [b"\xff"]
        for holder, sid in ((SIBLING, SID), (STRANGER, OTHER_SID), (SIBLING, OTHER_SID)):
            user = f"user of {holder}"
            redis.sessions.setdefault(KEYS.sessions(user), {})[sid] = str(holder)
            redis.members.setdefault(KEYS.gateway(holder), set()).add(encode_member(user, sid))
        assert await registry.remove_siblings() == 2
        assert redis.asked[0] == ("zrange", KEYS.gateways, 0, -1)
        assert redis.leases == [str(STRANGER), str(OWN)]

    async def test_at_its_end_a_gateway_removes_its_own_sessions_and_its_lease(
        self, redis: RecordingRedis, registry: SessionRegistry
    ) -> None:
        redis.leases = [str(STRANGER), str(OWN)]
        await registry.register("alice", SID)
        await registry.remove_own_incarnation()
        assert redis.leases == [str(STRANGER)]
        assert not any(redis.sessions.values())

    @pytest.mark.parametrize(
        ("calls", "notes", "leases"),
        [
            (0, [STRANGER, OWN], [STRANGER, OWN]),
            (1, [STRANGER], [STRANGER, OWN]),
            (2, [STRANGER], [STRANGER]),
        ],
    )
    async def test_a_note_about_rabbitmq_never_stays_behind_without_its_lease(
        self,
        redis: RecordingRedis,
        registry: SessionRegistry,
        calls: int,
        notes: list[Incarnation],
        leases: list[Incarnation],
    ) -> None:
        """The lease is how the next attempt finds what an interrupted one left."""
        redis.leases = [str(STRANGER), str(OWN)]
        redis.without_broker = {str(STRANGER): "3000", str(OWN): "4000"}
        redis.writes_left = calls
        with contextlib.suppress(Unavailable):
            await registry.remove_own_incarnation()
        assert (list(redis.without_broker), redis.leases) == (list(map(str, notes)), list(map(str, leases)))


class TestLost:
    NOW_S: Final = 1_000_000

    def hold(self, redis: RecordingRedis, *holders: Incarnation) -> None:
        """Have alice's sessions, one at each holder."""
        redis.sessions[KEYS.sessions("alice")] = {chr(97 + n) * 22: str(each) for n, each in enumerate(holders)}
        redis.answers["hgetall"] = {
            sid.encode(): entry.encode() for sid, entry in redis.sessions[KEYS.sessions("alice")].items()
        }

    async def test_sessions_are_read_before_leases_and_removed_before_the_lease_is_made_to_expire(
        self, redis: RecordingRedis, registry: SessionRegistry
    ) -> None:
        self.hold(redis, SIBLING)
        redis.answers |= {"time": (self.NOW_S, 0), "zmscore": [None]}
        assert await registry.remove_lost("alice") == 1
        assert redis.asked == [
            ("hgetall", KEYS.sessions("alice")),
            ("time",),
            ("zmscore", KEYS.gateways, [str(SIBLING)]),
            (Script.REMOVE_SESSION, [KEYS.sessions("alice")], ["a" * 22, str(SIBLING)]),
            (Script.EXPIRE_LEASES, [KEYS.gateways], [str(SIBLING)]),
        ]

    @pytest.mark.parametrize(("microseconds", "removed"), [(1_999, 0), (2_000, 1)])
    async def test_a_lease_is_over_by_the_clock_of_redis_in_whole_milliseconds(
        self, redis: RecordingRedis, registry: SessionRegistry, microseconds: int, removed: int
    ) -> None:
        self.hold(redis, SIBLING)
        ended_ms = self.NOW_S * 1_000 - LOST_MS + 2
        redis.answers |= {"time": (self.NOW_S, microseconds), "zmscore": [float(ended_ms)]}
        assert await registry.remove_lost("alice") == removed
        assert (redis.asked[-1][0] is Script.EXPIRE_LEASES) is bool(removed), "no lease is touched without a reason"

    async def test_a_user_without_sessions_costs_one_look(
        self, redis: RecordingRedis, registry: SessionRegistry
    ) -> None:
        redis.answers["hgetall"] = {}
        assert await registry.remove_lost("alice") == 0
        assert redis.asked == [("hgetall", KEYS.sessions("alice"))]

    async def test_many_sessions_of_a_user_are_counted_together_and_its_own_stay(
        self, redis: RecordingRedis, registry: SessionRegistry
    ) -> None:
        self.hold(redis, SIBLING, OWN, SIBLING)
        redis.answers |= {"time": (self.NOW_S, 0), "zmscore": [None, None]}
        assert await registry.remove_lost("alice") == 2
        assert list(redis.sessions[KEYS.sessions("alice")].values()) == [str(OWN)]


class TestClose:
    @pytest.mark.parametrize(
        "call",
        [
            lambda registry: registry.register("alice", SID),
            lambda registry: registry.leave("alice", SID),
            lambda registry: registry.subscribe("alice", SID, DEMO, without_queue=True),
            lambda registry: registry.unsubscribe("alice", SID, DEMO),
            lambda registry: registry.advance_cursor(ADVANCE_MOVE),
            lambda registry: registry.read_page("alice", DEMO, ONE_ENTRY),
            lambda registry: registry.remove_lost("alice"),
            lambda registry: registry.refresh_member("alice", SID),
        ],
        ids=["register", "leave", "subscribe", "unsubscribe", "cursor", "page", "lost", "member"],
    )
    async def test_whoever_waits_is_given_up(
        self, call: Callable[[SessionRegistry], Coroutine[Any, Any, Any]], registry: SessionRegistry
    ) -> None:
        waits = asyncio.ensure_future(call(registry))
        await asyncio.sleep(0)
        await registry.close()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await waits
