"""Sessions, routes and forgetting over HTTP, with a real dispatcher, gateway, Redis and RabbitMQ."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.api.user_directory import FORGET_BATCH, UserDirectory
from pushcluster_gateway import close_codes
from pushcluster_runtime.redis.client import Call, ScriptRunner
from tests.support.containers import Services, down
from tests.support.dispatchers import API_KEY, DEMO, Logs, RunningDispatcher
from tests.support.gateways import Backend, RunningGateway, token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

QUERY: Final = f"destination={DEMO}"


async def call(
    dispatcher: RunningDispatcher, method: str, path: str, data: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Ask the API, and return status and document."""
    given = {"Authorization": f"Bearer {API_KEY}", **headers}
    async with dispatcher.session.request(method, dispatcher.api_url + path, data=data, headers=given) as response:
        return response.status, await response.json(content_type=None)


async def publish(dispatcher: RunningDispatcher, body: str, user: str = "alice", **headers: str) -> None:
    async def accepted() -> bool:
        status, answer = await call(dispatcher, "POST", f"/v1/users/{user}/messages?{QUERY}", body, **headers)
        assert status == 202, answer
        return True

    await eventually(accepted)


async def test_sessions_are_listed_as_long_as_they_last(dispatcher: RunningDispatcher, gateway: RunningGateway) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        assert await call(dispatcher, "GET", "/v1/users/alice/sessions") == (
            200,
            {
                "user": "alice",
                "sessions": [
                    {
                        "session": alice.session,
                        "incarnation": str(gateway.incarnation),
                        "destinations": ["/queue/demo"],
                    }
                ],
            },
        )

    async def nobody() -> bool:
        return await call(dispatcher, "GET", "/v1/users/alice/sessions") == (200, {"user": "alice", "sessions": []})

    await eventually(nobody)


async def disconnect(dispatcher: RunningDispatcher, user: str, sid: str) -> int:
    status, _ = await call(dispatcher, "DELETE", f"/v1/users/{user}/sessions/{sid}")
    return status


async def test_one_session_is_disconnected_and_no_other(dispatcher: RunningDispatcher, gateway: RunningGateway) -> None:
    async with (
        connected(gateway.url, token=token("alice")) as one,
        connected(gateway.url, token=token("alice")) as other,
    ):
        await other.subscribe("/user/queue/demo")
        assert await disconnect(dispatcher, "bob", one.session) == 404
        assert await disconnect(dispatcher, "alice", one.session) == 202
        error = await one.expect_error()
        assert error["message"] == "disconnected by the back end"
        assert one.close_code == close_codes.DISCONNECTED.code == 4510

        async def is_gone() -> bool:
            return await disconnect(dispatcher, "alice", one.session) == 404

        await eventually(is_gone)
        await publish(dispatcher, "still here")
        assert (await other.next_message()).text == "still here"


async def test_a_session_of_a_dead_gateway_is_not_said_to_be_disconnected(
    dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    alice = await StompClient.connect(gateway.url, token=token("alice"))
    await gateway.kill()
    await alice.wait_closed()

    async def cannot_be_reached() -> bool:
        # Until the broker knows that the gateway is gone, its queue takes the order.
        return await disconnect(dispatcher, "alice", alice.session) == 503

    await eventually(cannot_be_reached)


async def test_a_route_says_where_a_message_goes_and_it_goes_there(
    dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    _, offline = await call(dispatcher, "GET", f"/v1/users/alice/route?{QUERY}")
    assert (offline["sessions"], offline["copies"]) == ([], [])
    assert offline["offline"] == {"entries": 0, "waiting": 0, "newest": "0-0", "cursor": "0-0"}
    await publish(dispatcher, "waits")

    async def one_waits() -> bool:
        _, route = await call(dispatcher, "GET", f"/v1/users/alice/route?{QUERY}")
        return bool(route["offline"]["waiting"] == route["offline"]["entries"] == 1)

    await eventually(one_waits)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        assert (await alice.next_message()).text == "waits"

        async def nothing_waits() -> dict[str, Any] | None:
            _, route = await call(dispatcher, "GET", f"/v1/users/alice/route?{QUERY}")
            return route if route["offline"]["waiting"] == 0 else None

        route = await eventually(nothing_waits)
        assert route is not None
        assert route["offline"]["entries"] == 1
        (session,) = route["sessions"]
        assert (session["subscribed"], session["lease"]) == (True, True)

        async def goes_to_its_own_queue() -> bool:
            _, route = await call(dispatcher, "GET", f"/v1/users/alice/route?{QUERY}")
            (copy,) = route["copies"]
            assert copy["routingKey"] == f"demo-user{alice.session}"
            return bool(copy["fallback"]["routingKey"] == f"pushcluster.gateway.{gateway.incarnation}")

        await eventually(goes_to_its_own_queue)


async def test_forgetting_leaves_no_message_no_session_and_no_message_id(
    dispatcher: RunningDispatcher, gateway: RunningGateway, logs: Logs
) -> None:
    news = Destination("topic", "news")
    await publish(dispatcher, "old", **{"Idempotency-Key": "k1"})
    await call(dispatcher, "POST", f"/v1/users/alice/messages?destination={news}", "old news")
    await publish(dispatcher, "bobs", "bob")
    for user, destination in (("alice", DEMO), ("alice", news), ("bob", DEMO)):
        await eventually(partial(logs.length, user, destination))
    alice = await StompClient.connect(gateway.url, token=token("alice"))
    assert await call(dispatcher, "DELETE", "/v1/users/alice") == (
        200,
        {"user": "alice", "destinations": 2, "sessions": 1, "unreachable": 0},
    )
    assert await alice.wait_closed() == close_codes.DISCONNECTED.code
    left = [key async for key in logs.redis.scan_iter(f"{logs.keys.sessions('alice').removesuffix('sessions')}*")]
    assert all(b":id:" in key or key.endswith(b":sessions") for key in left), left
    assert await logs.bodies("bob") == ["bobs"]

    await publish(dispatcher, "old again", **{"Idempotency-Key": "k1"})
    await eventually(lambda: logs.length("alice"))
    assert await logs.bodies("alice") == ["old again"]


async def test_one_destination_more_than_a_round_trip_forgets_is_forgotten_too(
    back: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_trips: list[int] = []
    run_many = ScriptRunner.run_many

    async def count(self: ScriptRunner, script: Script, calls: Sequence[Call]) -> list[Any]:
        round_trips.append(len(calls))
        return await run_many(self, script, calls)

    for n in range(FORGET_BATCH + 1):
        await back.push("alice", "m", destination=Destination("queue", f"d{n}"))
    monkeypatch.setattr(ScriptRunner, "run_many", count)
    assert await UserDirectory(back.redis, back.keys).forget("alice") == FORGET_BATCH + 1
    assert max(round_trips) == FORGET_BATCH
    assert sum(round_trips) == FORGET_BATCH + 1
    assert not await back.redis.exists(back.keys.log("alice", Destination("queue", "d100")))


async def test_a_client_that_comes_back_after_its_user_was_forgotten_is_told_of_the_gap(
    dispatcher: RunningDispatcher, gateway: RunningGateway
) -> None:
    await publish(dispatcher, "one")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        last = (await alice.next_message())["message-id"]
        await call(dispatcher, "DELETE", "/v1/users/alice")
        await alice.wait_closed()
    async with connected(gateway.url, token=token("alice")) as alice:
        receipt = await alice.subscribe("/user/queue/demo", last_message_id=last)
        assert receipt is not None
        assert receipt["recovered"] == "false"
        await publish(dispatcher, "two")
        assert (await alice.next_message()).text == "two"


async def test_forgetting_while_messages_arrive_breaks_no_log_and_forgets_all_that_came_before(
    dispatcher: RunningDispatcher, logs: Logs
) -> None:
    stop = asyncio.Event()
    sent: list[str] = []

    async def keep_publishing() -> None:
        while not stop.is_set():
            await publish(dispatcher, f"{len(sent)}")
            sent.append(f"{len(sent)}")

    publishing = asyncio.create_task(keep_publishing())
    try:
        for _ in range(5):
            count = len(sent)
            await eventually(partial(_holds_more_than, sent, count + 20))
            before = set(await logs.bodies("alice"))
            status, _ = await call(dispatcher, "DELETE", "/v1/users/alice")
            assert status == 200
            assert not before & set(await logs.bodies("alice"))
        settled = len(sent)  # whatever is accepted from here on comes after the last forgetting
        await eventually(partial(_holds_more_than, sent, settled + 20))
    finally:
        stop.set()
        await publishing

    async def all_kept() -> bool:
        return set(sent[settled + 1 :]) <= set(await logs.bodies("alice"))

    await eventually(all_kept)
    ids = [entry.id for entry in await logs.entries("alice")]
    assert [each.seq for each in ids] == list(range(ids[0].seq, ids[0].seq + len(ids)))
    assert await logs.redis.smembers(logs.keys.destinations("alice")) == {str(DEMO).encode()}
    assert await logs.redis.hget(logs.keys.meta("alice", DEMO), "seq") == str(ids[-1].seq).encode()


async def test_hundreds_of_destinations_are_forgotten_in_batches(
    dispatcher: RunningDispatcher, back: Backend, logs: Logs
) -> None:
    for n in range(450):
        await back.push("alice", "x", destination=Destination("queue", f"d{n}"))
    status, answer = await call(dispatcher, "DELETE", "/v1/users/alice")
    assert (status, answer["destinations"]) == (200, 450)
    assert [key async for key in logs.redis.scan_iter(f"{logs.keys.meta('alice', DEMO).split('meta')[0]}*")] == []


async def test_a_batch_reaches_every_log_in_order(dispatcher: RunningDispatcher, logs: Logs) -> None:
    messages = [{"user": f"user{n % 3}", "destination": "/queue/demo", "body": str(n)} for n in range(150)]
    wrong = {"user": "user0", "destination": "/queue/a.b", "body": "x"}
    document = json.dumps({"messages": [*messages, wrong]})
    await publish(dispatcher, "ready")
    status, answer = await call(
        dispatcher, "POST", "/v1/messages:batch", document, **{"Content-Type": "application/json"}
    )
    assert (status, answer["accepted"], answer["results"][-1]["status"]) == (207, 150, 400)

    for n in range(3):
        await eventually(partial(_has_all, logs, n))


def _holds_more_than(sent: list[str], count: int) -> bool:
    return len(sent) > count


async def _has_all(logs: Logs, user: int) -> bool:
    return await logs.bodies(f"user{user}") == [str(n) for n in range(user, 150, 3)]


@pytest.mark.parametrize(("method", "path"), [("GET", "/sessions"), ("GET", f"/route?{QUERY}"), ("DELETE", "")])
async def test_without_redis_it_is_answered_503_and_later_200_again(
    dispatcher: RunningDispatcher, services: Services, method: str, path: str
) -> None:
    async with down(services.redis):
        status, answer = await call(dispatcher, method, f"/v1/users/alice{path}")
        assert (status, answer["status"]) == (503, 503)

    async def answers() -> bool:
        return (await call(dispatcher, method, f"/v1/users/alice{path}"))[0] == 200

    await eventually(answers)


async def test_the_document_is_served_by_the_real_program(dispatcher: RunningDispatcher) -> None:
    async with dispatcher.session.get(f"{dispatcher.api_url}/openapi.json") as response:
        assert (response.status, (await response.json())["openapi"]) == (200, "3.1.0")
