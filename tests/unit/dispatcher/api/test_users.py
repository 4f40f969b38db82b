"""Sessions, routes and forgetting."""

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation, StreamId
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_dispatcher.api.explain import LogFacts, explain_route
from tests.unit.dispatcher.api.bench import DEMO, HERE, SID, SID_2, Bench, problem

ELSEWHERE = Incarnation("pod", "1" * 16)


async def test_a_users_sessions_are_listed(bench: Bench) -> None:
    response = await bench.get("/v1/users/alice/sessions")
    assert await response.json() == {
        "user": "alice",
        "sessions": [
            {"session": SID, "incarnation": str(HERE), "destinations": ["/queue/demo"]},
            {"session": SID_2, "incarnation": str(HERE), "destinations": []},
        ],
    }


async def test_a_user_whom_nobody_knows_has_no_sessions(bench: Bench) -> None:
    response = await bench.get("/v1/users/nobody/sessions")
    assert (response.status, await response.json()) == (200, {"user": "nobody", "sessions": []})


async def test_a_session_is_disconnected_by_its_gateway(bench: Bench) -> None:
    response = await bench.delete(f"/v1/users/alice/sessions/{SID}")
    assert response.status == 202
    assert await response.json() == {"user": "alice", "session": SID, "incarnation": str(HERE)}
    assert bench.broker.disconnected == [("alice", SID)]


@pytest.mark.parametrize("path", [f"/v1/users/alice/sessions/{'c' * 26}", f"/v1/users/bob/sessions/{SID}"])
async def test_a_session_that_is_not_the_users_is_not_found(bench: Bench, path: str) -> None:
    response = await bench.delete(path)
    assert response.status == 404
    await problem(response)
    assert bench.broker.disconnected == []


async def test_a_session_whose_gateway_cannot_be_told_is_not_said_to_be_gone(bench: Bench) -> None:
    bench.broker.reachable = False
    response = await bench.delete(f"/v1/users/alice/sessions/{SID}")
    assert response.status == 503
    assert "gateway" in await problem(response)


async def test_forgetting_deletes_the_logs_and_disconnects_everybody(bench: Bench) -> None:
    response = await bench.delete("/v1/users/alice")
    assert (response.status, await response.json()) == (
        200,
        {"user": "alice", "destinations": 2, "sessions": 2, "unreachable": 0},
    )
    assert bench.users.forgotten == ["alice"]
    assert bench.broker.disconnected == [("alice", SID), ("alice", SID_2)]


async def test_forgetting_tells_how_many_sessions_could_not_be_told(bench: Bench) -> None:
    bench.broker.reachable = False
    document = await (await bench.delete("/v1/users/alice")).json()
    assert (document["sessions"], document["unreachable"]) == (0, 2)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/users/alice/sessions"),
        ("GET", "/v1/users/alice/route?destination=/queue/demo"),
        ("DELETE", f"/v1/users/alice/sessions/{SID}"),
        ("DELETE", "/v1/users/alice"),
    ],
)
async def test_without_redis_it_is_answered_503(bench: Bench, method: str, path: str) -> None:
    bench.users.error = Unavailable("Redis: refused")
    response = await (bench.get(path) if method == "GET" else bench.delete(path))
    assert (response.status, await problem(response)) == (503, "Redis: refused")


async def test_a_route_is_explained(bench: Bench) -> None:
    document = await (await bench.get("/v1/users/alice/route?destination=/queue/demo")).json()
    assert document["mode"] == "Session"
    assert [each["subscribed"] for each in document["sessions"]] == [True, False]
    assert document["copies"] == [
        {
            "exchange": "amq.topic",
            "routingKey": f"demo-user{SID}",
            "fallback": {"exchange": "", "routingKey": f"pushcluster.gateway.{HERE}"},
        }
    ]
    assert document["offline"] == {"entries": 3, "waiting": 2, "newest": "1000-7", "cursor": "900-5"}
    assert "2 sessions; 1 of them" in document["why"][0]


def explain(mode: RoutingMode, sessions: dict[str, SessionEntry], **leases: bool) -> tuple[list[str], list[object]]:
    lease = {entry.incarnation: leases.get("lease", True) for entry in sessions.values()}
    log = LogFacts(0, StreamId(0, 0), StreamId(0, 0))
    route = explain_route(mode, "alice", DEMO, sessions=sessions, leases=lease, log=log)
    return route["why"], [copy["routingKey"] for copy in route["copies"]]


def test_each_mode_is_explained_by_what_its_dispatcher_does() -> None:
    sessions = {SID: SessionEntry(HERE, (DEMO,)), SID_2: SessionEntry(ELSEWHERE, (DEMO,)), "c" * 26: SessionEntry(HERE)}
    words, keys = explain(RoutingMode.GATEWAY, sessions)
    assert keys == [f"pushcluster.gateway.{HERE}", f"pushcluster.gateway.{ELSEWHERE}"]
    assert "Mode Gateway" in words[1]
    words, keys = explain(RoutingMode.BROADCAST, sessions)
    assert keys == [""]
    assert "Mode Broadcast" in words[1]


def test_mode_session_says_from_which_rate_on_copies_take_the_fallback() -> None:
    words, keys = explain(RoutingMode.SESSION, {SID: SessionEntry(HERE, (DEMO,))})
    assert keys == [f"demo-user{SID}"]
    assert "more than 1,000 such copies a second from one dispatcher to one gateway" in words[1]
    assert "copies go to `fallback` at once" in words[1]


def test_a_route_says_where_each_session_is_and_what_it_gets() -> None:
    route = explain_route(
        RoutingMode.SESSION,
        "bøb",
        DEMO,
        sessions={SID_2: SessionEntry(ELSEWHERE, (Destination("topic", "t"),)), SID: SessionEntry(HERE, (DEMO,))},
        leases={HERE: True, ELSEWHERE: False},
        log=LogFacts(3, StreamId(9, 8), StreamId(7, 6)),
    )
    assert route.pop("why")[0] == f"The user has 2 sessions; 1 of them is subscribed to {DEMO}."
    queue = f"pushcluster.gateway.{HERE}"
    sessions = [
        {
            "session": SID,
            "incarnation": str(HERE),
            "destinations": ["/queue/demo"],
            "subscribed": True,
            "lease": True,
        },
        {
            "session": SID_2,
            "incarnation": str(ELSEWHERE),
            "destinations": ["/topic/t"],
            "subscribed": False,
            "lease": False,
        },
    ]
    assert route == {
        "user": "bøb",
        "destination": "/queue/demo",
        "mode": "Session",
        "sessions": sessions,
        "copies": [
            {
                "exchange": "amq.topic",
                "routingKey": f"demo-user{SID}",
                "fallback": {"exchange": "", "routingKey": queue},
            }
        ],
        "offline": {"entries": 3, "waiting": 2, "newest": "9-8", "cursor": "7-6"},
    }


def test_a_session_without_a_queue_is_reached_by_its_gateway() -> None:
    entry = SessionEntry(HERE, (DEMO,), frozenset({DEMO}))
    _, keys = explain(RoutingMode.SESSION, {SID: entry, SID_2: SessionEntry(ELSEWHERE, (DEMO,))})
    assert keys == [f"pushcluster.gateway.{HERE}", f"demo-user{SID_2}"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            1,
            [
                ("1 session;", " is subscribed"),
                ("1 gateway ", " holds no", ": it is gone or", " If it is gone, its sessions"),
                ("1 message ", " waits ", " has received it yet."),
            ],
        ),
        (
            2,
            [
                ("2 sessions;", " are subscribed"),
                ("2 gateways ", " hold no", ": they are gone or", " If they are gone, their sessions"),
                ("2 messages ", " wait ", " has received them yet."),
            ],
        ),
    ],
)
def test_one_and_several_are_told_apart_in_words(number: int, said: list[tuple[str, ...]]) -> None:
    gateways = [HERE, ELSEWHERE][:number]
    words = explain_route(
        RoutingMode.GATEWAY,
        "alice",
        DEMO,
        sessions={chr(97 + n) * 26: SessionEntry(each, (DEMO,)) for n, each in enumerate(gateways)},
        leases=dict.fromkeys(gateways, False),
        log=LogFacts(number, StreamId(9, number), StreamId(0, 0)),
    )["why"]
    del words[1]
    for sentence, parts in zip(words, said, strict=True):
        assert [part for part in parts if part not in sentence] == []


def test_nothing_that_is_not_so_is_said() -> None:
    words, _ = explain(RoutingMode.SESSION, {SID: SessionEntry(HERE, (DEMO,))})
    assert len(words) == 2


def test_a_gateway_without_a_lease_whose_sessions_do_not_get_the_message_is_not_mentioned() -> None:
    words, _ = explain(RoutingMode.SESSION, {SID: SessionEntry(HERE)}, lease=False)
    assert "lease" not in " ".join(words)


def test_nobody_there_is_said_in_words() -> None:
    words, keys = explain(RoutingMode.SESSION, {})
    assert keys == []
    assert "waits in the user's log" in words[-1]


def test_a_gateway_without_a_lease_is_said_in_words() -> None:
    words, _ = explain(RoutingMode.SESSION, {SID: SessionEntry(HERE, (DEMO,))}, lease=False)
    assert "1 gateway of these sessions holds no lease" in words[-1]


def test_several_gateways_without_a_lease_and_what_waits_are_said_in_whole_sentences() -> None:
    sessions = {SID: SessionEntry(HERE, (DEMO,)), SID_2: SessionEntry(ELSEWHERE, (DEMO,))}
    log = LogFacts(3, StreamId(9, 3), StreamId(0, 0))
    leases = dict.fromkeys((HERE, ELSEWHERE), False)
    words = explain_route(RoutingMode.SESSION, "alice", DEMO, sessions=sessions, leases=leases, log=log)["why"]
    assert "2 gateways of these sessions hold no lease: they are gone or cannot reach Redis. " in words[-2]
    assert words[-1].startswith("3 messages before it wait in the log")


@pytest.mark.parametrize(
    ("entries", "seq", "cursor_seq", "waiting"), [(3, 7, 5, 2), (3, 7, 0, 3), (0, 7, 5, 0), (3, 7, 7, 0), (1, 1, 57, 0)]
)
def test_messages_that_wait_are_entries_in_the_log_that_no_session_has_received(
    entries: int, seq: int, cursor_seq: int, waiting: int
) -> None:
    assert LogFacts(entries, StreamId(9, seq), StreamId(9, cursor_seq)).waiting == waiting
