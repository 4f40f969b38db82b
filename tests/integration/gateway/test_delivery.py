"""A gateway against real Redis and RabbitMQ: what a user's clients get, and when."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway import main
from pushcluster_gateway.limits import Limits
from tests.support.gateways import CLOCK_ERROR_MS, Backend, RunningGateway, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import ServerFrame, connected
from tests.support.waiting import eventually


def bodies(messages: list[ServerFrame]) -> list[str]:
    return [message.text for message in messages]


async def cursor_is(back: Backend, user: str, message_id: str) -> None:
    async def reached() -> bool:
        return await back.cursor(user) == StreamId.parse(message_id)

    await eventually(reached)


async def is_gone(back: Backend, user: str) -> bool:
    return not await back.sessions(user)


async def test_connected_names_session_user_and_gateway(gateway: RunningGateway) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        assert alice.user_name == "alice"
        assert alice.gateway == gateway.pod_name
        assert len(alice.session) == 26
        assert alice.connected["server"].startswith("PushCluster/")
        assert alice.connected["version"] == "1.2"


async def test_a_client_that_leaves_at_once_does_not_get_the_same_again(gateway: RunningGateway, back: Backend) -> None:
    await back.push("alice", "one")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await alice.next_message()
        await alice.disconnect()
    await eventually(lambda: is_gone(back, "alice"))
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await alice.no_message()


async def test_a_resume_of_a_lost_log_is_told(gateway: RunningGateway, back: Backend) -> None:
    last = await back.push("alice", "old")
    await back.redis.delete(back.keys.log("alice", Destination("queue", "demo")))
    await back.redis.delete(back.keys.meta("alice", Destination("queue", "demo")))
    await back.push("alice", "new")
    async with connected(gateway.url, token=token("alice")) as alice:
        receipt = await alice.subscribe("/user/queue/demo", last_message_id=last)
        assert receipt is not None
        assert receipt["recovered"] == "false"
        message = await alice.next_message()
        assert (message.text, message["recovered"]) == ("new", "false")


async def test_dropped_offline_messages_are_told(gateway: RunningGateway, back: Backend) -> None:
    back.max_entries = 2
    for n in range(4):
        await back.push("alice", f"m{n}")
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        messages = await alice.next_messages(2)
        assert [(message.text, message.headers.get("recovered")) for message in messages] == [
            ("m2", "false"),
            ("m3", None),
        ]


async def test_a_lost_copy_is_found_by_the_next_one(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "m0")
        await alice.next_message()
        back.send_copies = False
        await back.push("alice", "m1")
        await back.push("alice", "m2")
        back.send_copies = True
        await alice.no_message()
        await back.push("alice", "m3")
        assert bodies(await alice.next_messages(3)) == ["m1", "m2", "m3"]
        assert await gateway.metric("holes_total") == 1
        assert await gateway.metric("gaps_total") == 0


async def test_an_expired_message_is_passed_over(gateway: RunningGateway, back: Backend) -> None:
    await back.push("alice", "late", expires_in_ms=1)
    await back.push("alice", "lasting", expires_in_ms=60_000)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        assert (await alice.next_message()).text == "lasting"
        await alice.no_message()


@pytest.mark.parametrize("step_s", [120, -120])
async def test_a_step_of_the_gateways_wall_clock_expires_nothing_and_keeps_nothing(
    plane: Plane, back: Backend, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    ahead_s = 0
    monkeypatch.setattr(main, "time", SimpleNamespace(time=lambda: time.time() + ahead_s))
    async with running_gateway(plane) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            ahead_s = step_s
            await back.push("alice", "lasting", expires_in_ms=60_000)
            assert (await alice.next_message()).text == "lasting"
            back.send_copies = False
            late = await back.push("alice", "late", expires_in_ms=1)
            back.send_copies = True
            await eventually(lambda: has_expired(back, late))
            await back.push("alice", "next")
            assert (await alice.next_message()).text == "next"


async def has_expired(back: Backend, message_id: str) -> bool:
    """Tell whether Redis is so far past the millisecond which a message had to live that a gateway knows it too."""
    seconds, microseconds = await back.redis.time()
    return seconds * 1_000 + microseconds // 1_000 > StreamId.parse(message_id).ms + 1 + CLOCK_ERROR_MS


async def test_bodies_are_opaque_bytes(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        for body in (bytes(range(256)), b"", "é\0ü".encode()):
            await back.push("alice", body)
            assert (await alice.next_message()).body == body


async def test_acks_in_a_transaction_count_at_commit(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice"), versions=("1.1",)) as alice:
        await alice.subscribe("/user/queue/demo", ack="client-individual")
        ids = [await back.push("alice", f"m{n}") for n in range(2)]
        messages = await alice.next_messages(2)
        await alice.begin("t")
        await alice.ack(messages[0], transaction="t", receipt=True)
        await alice.ack(messages[1], transaction="t", receipt=True)
        assert await back.cursor("alice") is None
        await alice.commit("t")
        await cursor_is(back, "alice", ids[1])


async def test_one_unacknowledged_message_too_many_waits_for_an_ack(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, limits=Limits(max_unacked_messages=3)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo", ack="client")
            for n in range(5):
                await back.push("alice", f"m{n}")
            messages = await alice.next_messages(3)
            await alice.no_message()
            await alice.ack(messages[1])
            assert bodies(await alice.next_messages(2)) == ["m3", "m4"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_every_version_subscribes_acknowledges_and_leaves(
    gateway: RunningGateway, back: Backend, version: str
) -> None:
    async with connected(gateway.url, token=token("alice"), versions=(version,)) as alice:
        assert alice.version == version
        await alice.subscribe("/user/queue/demo", ack="client")
        message_id = await back.push("alice", "m")
        await alice.ack(await alice.next_message(), receipt=True)
        await cursor_is(back, "alice", message_id)
        await alice.unsubscribe()
        await alice.disconnect()


async def test_leaving_and_coming_back_quickly_never_loses_the_destination(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        for n in range(30):
            await alice.subscribe("/user/queue/demo", id=f"s{n}", receipt=False)
            await alice.unsubscribe(f"s{n}", receipt=False)
        await alice.subscribe("/user/queue/demo", id="last")
        for n in range(10):
            await back.push("alice", f"m{n}")
        assert bodies(await alice.next_messages(10)) == [f"m{n}" for n in range(10)]


async def test_a_returned_session_copy_arrives_by_the_gateways_own_queue(plane: Any, back: Backend) -> None:
    """The dispatcher still sends as in mode Session, and this gateway is of another mode already."""
    async with running_gateway(plane, ROUTING_MODE="Gateway") as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            await back.push("alice", "returned")
            assert (await alice.next_message()).text == "returned"
            assert [outcome.name for outcome in back.outcomes] == ["RETURNED", "CONFIRMED"]
