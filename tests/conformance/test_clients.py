"""Clients that nobody here wrote, all through one story: @stomp/stompjs, stomp.py, go-stomp and Spring's."""

import time
from dataclasses import replace

import pytest

from pushcluster_contract.ids import StreamId
from pushcluster_contract.topology import REFUSED_QUEUE
from pushcluster_gateway.limits import Limits
from tests.conformance import report
from tests.support.amqp_admin import AmqpAdmin
from tests.support.client_programs import PROGRAMS, STOMPJS, ClientProgram, Event, RunningClient, built, running_client
from tests.support.gateways import Backend, RunningGateway, running_gateway, token
from tests.support.planes import Plane
from tests.support.waiting import WITHIN_S, eventually

BODIES = ["first", "", "é \U0001f600 日本", "line\nline\n", "x" * 20_000]
HEART_BEAT_MS = 1_500
QUIET_S = 9
"""Twice as long as a gateway of these tests waits for a heart-beat: a busy machine may hold up one or two."""
KIND = "a:b\\-c\nd"
"""A header that every version but 1.0 has to escape. No c, n or r after the backslash: stompjs unescapes it twice."""


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> ClientProgram:
    return request.param  # type: ignore[no-any-return]


async def connect(client: RunningClient, gateway: RunningGateway, heart_beat_ms: int = 0) -> Event:
    await client.order("connect", url=gateway.url, token=token("alice"), heartBeat=heart_beat_ms)
    return await client.expect("connected")


async def subscribe(client: RunningClient, ack: str, **headers: str) -> None:
    receipt = f"subscribed-{ack}"
    headers |= {"id": f"s-{ack}", "destination": "/user/queue/demo", "ack": ack}
    await client.order("subscribe", receipt=receipt, headers=headers)
    if client.program.confirms_subscribe:
        assert (await client.expect("receipt"))["receipt-id"] == receipt


async def disconnect(client: RunningClient, back: Backend) -> None:
    await client.order("disconnect", receipt="goodbye")
    if client.program.confirms_disconnect:
        assert (await client.expect("receipt"))["receipt-id"] == "goodbye"
    await client.expect("closed")

    async def is_gone() -> bool:
        return not await back.sessions("alice")

    await eventually(is_gone)


async def test_a_client_of_other_people_gets_and_settles_and_resumes(
    program: ClientProgram, plane: Plane, gateway: RunningGateway, back: Backend, amqp_admin: AmqpAdmin
) -> None:
    async with running_client(program) as client:
        connected = await connect(client, gateway)
        assert (connected["user-name"], connected["version"]) == ("alice", "1.2")
        assert len(connected["session"]) == 26
        assert connected["server"].startswith("PushCluster/")
        await subscribe(client, "client-individual")
        started = time.monotonic()
        pushed = [
            await back.push("alice", body, content_type="text/plain", headers={"x-kind": KIND}) for body in BODIES
        ]
        messages = await client.expect_many("message", len(BODIES))
        took_s = time.monotonic() - started
        assert [message.body for message in messages] == BODIES
        assert [message["message-id"] for message in messages] == pushed
        assert {message["x-kind"] for message in messages} == {KIND}
        assert {message["subscription"] for message in messages} == {"s-client-individual"}

        for number in (3, 0, 1):
            await client.order("ack", message=number)
        await client.order("nack", message=2)

        async def four_are_settled() -> bool:
            refused = (await amqp_admin.queues(plane.vhost))[REFUSED_QUEUE]
            return (await back.cursor("alice"), refused) == (StreamId.parse(pushed[3]), 1)

        await eventually(four_are_settled)
        await disconnect(client, back)

        pushed.append(await back.push("alice", "while away"))
        await connect(client, gateway)
        await subscribe(client, "auto", **{"last-message-id": pushed[3]})
        resumed = await client.expect_many("message", 2)
        assert [message["message-id"] for message in resumed] == pushed[4:]
        assert [message.headers.get("redelivered") for message in resumed] == ["true", None]
        assert resumed[0]["recovered"] == "true"
        await disconnect(client, back)
    report.note(f"{program.name}: the whole story; {len(BODIES)} messages pushed and read in {took_s * 1_000:.0f} ms")


def test_a_missing_tool_fails_the_test_with_a_sentence() -> None:
    with pytest.raises(AssertionError, match="the client stompjs needs no-such-tool: install it and try again"):
        built(replace(STOMPJS, needs="no-such-tool"))


async def test_heart_beats_both_ways_keep_a_client_of_other_people(plane: Plane, back: Backend) -> None:
    """stompjs checks every heart-beat to the second; the others allow for more than they agree on."""
    quick = Limits(server_heart_beat_ms=HEART_BEAT_MS, client_heart_beat_ms=HEART_BEAT_MS, heart_beat_grace=3)
    async with running_gateway(plane, limits=quick) as gateway, running_client(STOMPJS) as client:
        await eventually(gateway.is_ready)
        await connect(client, gateway, heart_beat_ms=HEART_BEAT_MS)
        await subscribe(client, "auto")
        quiet_until = time.monotonic() + QUIET_S

        async def is_still_there() -> bool:
            assert await back.sessions("alice"), "given up though heart-beats were agreed on"
            return time.monotonic() > quiet_until

        await eventually(is_still_there, within_s=QUIET_S + WITHIN_S)
        await back.push("alice", "after the silence")
        assert (await client.expect("message")).body == "after the silence"
        await disconnect(client, back)
