"""One client over a real socket and services without Redis: what goes over the wire, and in which order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.client import Client
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

LIMITS = Limits(
    server_heart_beat_ms=300,
    client_heart_beat_ms=200,
)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS) as running:
        yield running


def hosted(server: RunningServer, number: int = 0) -> Client:
    return server.services.clients[number]


async def test_connected_tells_what_the_gateway_can_do(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(1_000, 1_000)) as client:
        assert client.connected["heart-beat"] == "300,200"
        assert client.connected["server"] == "PushCluster/test"
    async with connected(server.url, token=token("alice"), versions=("1.0",)) as client:
        assert client.connected["version"] == "1.0"
        assert client.connected["heart-beat"] == "0,0"


@pytest.mark.parametrize("mode", ["client", "client-individual"])
async def test_so_many_messages_wait_for_their_ack_and_one_more_waits_for_space_in_the_window(mode: str) -> None:
    async with (
        running_server(Limits(max_unacked_messages=3)) as server,
        connected(server.url, token=token("alice")) as client,
    ):
        await client.subscribe("/user/queue/demo", ack=mode)
        for n in range(4):
            server.services.push("alice", b"m%d" % n)
        first, *_ = await client.next_messages(3)
        assert server.services.metrics.messages_written == 3
        await client.ack(first, receipt=True)
        assert (await client.next_message()).body == b"m3"


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_receipts_come_for_every_kind_of_frame(server: RunningServer, version: str) -> None:
    async with connected(server.url, token=token("alice"), versions=(version,)) as client:
        await client.subscribe("/user/queue/demo", ack="client")
        for _ in range(4):
            server.services.push("alice", b"m")
        first, second, third, fourth = await client.next_messages(4)
        await client.ack(first, receipt=True)
        await client.begin("t")
        await client.ack(second, transaction="t", receipt=True)
        await client.abort("t")
        await client.begin("t")
        await client.ack(third, transaction="t", receipt=True)
        await client.commit("t")
        if version != "1.0":
            await client.nack(fourth, receipt=True)
            assert server.services.rejected == [StreamId(1_000, 4)]
        await client.unsubscribe()
        await client.disconnect()
        assert client.close_code == 1000


@pytest.mark.parametrize("end", ["send", "commit"])
async def test_an_ack_of_1_0_that_names_no_subscription_counts_where_its_very_message_waits(
    server: RunningServer, end: str
) -> None:
    async with connected(server.url, token=token("alice"), versions=("1.0",)) as client:
        for name in ("a", "b"):
            await client.send("SUBSCRIBE", {"destination": f"/user/queue/{name}", "ack": "client", "receipt": name})
            await client.wait_receipt(name)
        other, meant = (subscription.machine.window for subscription in server.services.subscriptions)
        assert other is not None
        assert meant is not None
        older = server.services.push("alice", b"m", Destination("queue", "a"))
        newer = [server.services.push("alice", b"m", Destination("queue", "b")) for _ in range(3)][1]
        await client.next_messages(4)
        headers = {"message-id": str(newer), "receipt": "acked"}
        if end == "commit":
            await client.begin("t")
            headers["transaction"] = "t"
        await client.send("ACK", headers)
        await client.wait_receipt("acked")
        if end == "commit":
            await client.commit("t")
        assert other.cursor < older < newer, "what is older elsewhere was not acknowledged"
        assert meant.cursor == newer, "what is older here was: client is cumulative"


async def test_a_receipt_is_escaped_like_any_header(server: RunningServer) -> None:
    for version, name in (("1.2", "a:b\\c\nd\re"), ("1.1", "a:b\\c\nd"), ("1.0", "a:b\\c")):
        async with connected(server.url, token=token("alice"), versions=(version,)) as client:
            await client.send("BEGIN", {"transaction": "t", "receipt": name})
            assert (await client.wait_receipt(name)).headers == {"receipt-id": name}


class TestTransactions:
    async def test_acks_count_at_commit_and_after_abort_never(self, server: RunningServer) -> None:
        async with connected(server.url, token=token("alice")) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual")
            window = server.services.subscriptions[0].machine.window
            assert window is not None
            ids = [server.services.push("alice", b"m") for _ in range(2)]
            first, second = await client.next_messages(2)
            for end in (client.abort, client.commit):
                await client.begin("t")
                await client.ack(first, transaction="t", receipt=True)
                await client.ack(second, transaction="t", receipt=True)
                assert window.cursor < ids[0]
                await end("t")
            assert window.cursor == ids[1]

    async def test_the_receipt_of_a_commit_comes_when_every_refused_message_is_safe(
        self, server: RunningServer
    ) -> None:
        async with connected(server.url, token=token("alice")) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual", id="a")
            await client.subscribe("/user/topic/demo", ack="client-individual", id="b")
            server.services.push("alice", b"m")
            server.services.push("alice", b"m", Destination("topic", "demo"))
            server.services.hold_calls = True
            await client.begin("t")
            for message in await client.next_messages(2):
                await client.nack(message, transaction="t", receipt=True)
            await client.send("COMMIT", {"transaction": "t", "receipt": "c"})
            await client.begin("other")
            assert "c" not in client.receipts
            (call,) = server.services.held_calls
            call()
            await client.wait_receipt("c")
            assert server.services.rejected == [StreamId(1_000, 1), StreamId(1_000, 1)]

    async def test_a_commit_takes_effect_as_a_whole_or_not_at_all(self, server: RunningServer) -> None:
        async with connected(server.url, token=token("alice")) as client:
            await client.subscribe("/user/queue/demo", ack="client-individual")
            window = server.services.subscriptions[0].machine.window
            assert window is not None
            message_id = server.services.push("alice", b"m")
            await client.begin("t")
            await client.ack(await client.next_message(), transaction="t")
            await client.send("NACK", {"id": "7/1-1", "transaction": "t"})
            await client.send("COMMIT", {"transaction": "t", "receipt": "c"})
            error = await client.expect_error()
            assert "NACK has header 'id' with value '7/1-1'" in error.text
            assert error["receipt-id"] == "c"
            assert window.cursor < message_id


async def test_the_receipt_of_disconnect_comes_when_everything_before_it_is_done(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo", ack="client-individual")
        message_id = server.services.push("alice", b"m")
        server.services.hold_calls = True
        await client.nack(await client.next_message())
        await client.send("DISCONNECT", {"receipt": "bye"})
        await eventually(lambda: server.services.held_calls, within_s=2)
        subscription = server.services.subscriptions[0]
        assert "bye" not in client.receipts
        assert subscription.machine.window is not None
        server.services.held_calls[0]()
        await client.wait_receipt("bye")
        assert subscription.machine.window.cursor == message_id
        assert await client.wait_closed() == 1000


async def test_a_subscription_that_ends_before_it_is_ready_still_gets_its_receipt(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        server.services.hold_calls = True
        await client.send("SUBSCRIBE", {"id": "a", "destination": "/user/queue/demo", "receipt": "subscribed"})
        await client.send("UNSUBSCRIBE", {"id": "a", "receipt": "unsubscribed"})
        await client.wait_receipt("unsubscribed")
        assert list(client.receipts) == ["subscribed", "unsubscribed"]
        server.services.hold_calls = False
        for call in server.services.held_calls:
            call()
        frames = "SUBSCRIBE\nid:b\ndestination:/user/queue/demo\nreceipt:again\n\n\0DISCONNECT\nreceipt:bye\n\n\0"
        await client.send_raw(frames)
        await client.wait_receipt("bye")
        assert list(client.receipts)[2:] == ["again", "bye"]


async def test_after_an_error_nothing_more_is_said_and_the_socket_is_closed(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        await client.send_raw("SEND\ndestination:/user/queue/demo\n\n\0BEGIN\ntransaction:t\nreceipt:late\n\n\0")
        await client.expect_error()
        server.services.push("alice", b"late")
        assert client.receipts.keys() == {"r1"}
        assert client.messages.empty()
        assert client.close_code == close_codes.SEND_REFUSED.code


async def test_frames_may_share_a_websocket_message_or_be_spread_over_many(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.send_raw(
            "\n\r\nBEGIN\ntransaction:t\nreceipt:1\n\n\0\n\nABORT\r\ntransaction:t\r\nreceipt:2\r\n\r\n\0\n"
        )
        for character in "BEGIN\ntransaction:u\nreceipt:3\n\n\0\n":
            await client.send_raw(character)
        for receipt in ("1", "2", "3"):
            await client.wait_receipt(receipt)


async def test_an_ack_that_comes_twice_or_late_is_no_error(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo", ack="client")
        server.services.push("alice", b"1")
        message = await client.next_message()
        await client.ack(message, receipt=True)
        await client.ack(message, receipt=True)
        await client.unsubscribe()
        await client.ack(message, receipt=True)


async def test_a_subscription_that_ended_gets_no_more(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice")) as client:
        await client.subscribe("/user/queue/demo")
        subscription = server.services.subscriptions[0]
        await client.unsubscribe()
        server.services.subscriptions.append(subscription)
        server.services.push("alice", b"late")
        await client.no_message(for_s=0.1)


async def test_a_client_that_leaves_leaves_the_services(server: RunningServer) -> None:
    for leave in (StompClient.disconnect, StompClient.close, StompClient.abort_socket):
        client = await StompClient.connect(server.url, token=token("alice"))
        await leave(client)
        await eventually(lambda: len(server.services.left) == len(server.services.clients), within_s=2)
    assert server.services.metrics.closes["client_disconnected"] == 2
    assert server.services.metrics.closes["connection_lost"] == 1


async def test_frames_sent_before_connected_wait_for_it(server: RunningServer) -> None:
    server.services.grant = False
    client = await StompClient.open(server.url)
    connect = f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token('alice')}\n\n\0"
    await client.send_raw(connect + "SUBSCRIBE\nid:1\ndestination:/user/queue/demo\nreceipt:r\n\n\0")
    await eventually(lambda: server.services.clients, within_s=2)
    await asyncio.sleep(0.05)
    assert not server.services.subscriptions
    hosted(server).registered()
    assert (await client.next_answer()).command == "CONNECTED"
    await client.wait_receipt("r")
    await client.close()
