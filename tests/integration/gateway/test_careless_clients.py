"""What one client says, or does not read, costs nobody a message: against real Redis and RabbitMQ."""

import fcntl
import sys
import termios
from typing import Final

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from tests.support.gateways import Backend, RunningGateway, token
from tests.support.stomp_client import ServerFrame, StompClient, connected
from tests.support.waiting import eventually

QUEUE: Final = "/user/queue/demo"
OTHER: Final = Destination("queue", "other")
WAITING: Final = 10
BODIES: Final = [f"m{n}" for n in range(WAITING)]
FLOOD: Final = 600
FLOOD_BYTES: Final = 1_000


async def left(back: Backend, user: str) -> None:
    async def is_gone() -> bool:
        return not await back.sessions(user)

    await eventually(is_gone)


def unread_bytes(client: StompClient) -> int:
    """Return how many bytes the client's kernel has received and the client has not read."""
    tcp = client.socket.transport.get_extra_info("socket")
    return int.from_bytes(fcntl.ioctl(tcp.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def texts(messages: list[ServerFrame]) -> list[str]:
    return [message.text for message in messages]


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
@pytest.mark.parametrize("said", ["future", "number", "time", "other user", "other destination", "same moment"])
async def test_a_client_that_says_it_has_what_never_was_gets_what_waits_and_takes_it_from_nobody(
    gateway: RunningGateway, back: Backend, ack: str, said: str
) -> None:
    sent = [await back.push("alice", body) for body in BODIES]
    newest = StreamId.parse(sent[-1])
    last = {
        "future": f"{newest.ms + 10_000_000}-{newest.seq + 1}",
        "number": f"{newest.ms}-{newest.seq + 1_000}",
        "time": f"{newest.ms - 1}-{newest.seq}",
        "other user": await back.push("bob", "his"),
        "other destination": await back.push("alice", "another", destination=OTHER),
        "same moment": sent[6],  # one moment may append to two logs under one number
    }[said]
    async with connected(gateway.url, token=token("alice")) as careless:
        receipt = await careless.subscribe(QUEUE, ack=ack, last_message_id=last)
        assert receipt is not None
        assert receipt["recovered"] == ("true" if said == "same moment" else "false")
        assert texts(await careless.next_messages(WAITING)) == BODIES
        await careless.disconnect()
    await left(back, "alice")
    async with connected(gateway.url, token=token("alice")) as following:
        await following.subscribe(QUEUE)
        if ack == "auto":
            await following.no_message()
        else:
            assert texts(await following.next_messages(WAITING)) == BODIES, "nobody has acknowledged them"


async def test_a_client_that_leaves_before_it_has_read_anything_takes_nothing_from_the_next_one(
    gateway: RunningGateway, back: Backend
) -> None:
    for body in BODIES:
        await back.push("alice", body)
    async with connected(gateway.url, token=token("alice")) as careless:
        subscribe = b"SUBSCRIBE\nid:0\ndestination:/user/queue/demo\nlast-message-id:9999999999999-1\n\n\0"
        await careless.send_raw(subscribe + b"UNSUBSCRIBE\nid:0\n\n\0")
        await careless.disconnect()
        assert careless.messages.empty()
    await left(back, "alice")
    async with connected(gateway.url, token=token("alice")) as following:
        await following.subscribe(QUEUE)
        assert texts(await following.next_messages(WAITING)) == BODIES


async def test_an_ack_of_another_destination_s_message_settles_nothing(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice"), versions=("1.1",)) as alice:
        await alice.subscribe(QUEUE, id="demo", ack="client")
        await alice.subscribe("/user/queue/other", id="other", ack="client")
        sent = [await back.push("alice", f"m{n}") for n in range(3)]
        late = await back.push("alice", "later", destination=OTHER)
        await alice.next_messages(4)
        for message_id in (sent[0], late):
            await alice.send("ACK", {"subscription": "demo", "message-id": message_id, "receipt": message_id})
            await alice.wait_receipt(message_id)
        await alice.disconnect()
    await left(back, "alice")
    assert await back.cursor("alice") == StreamId.parse(sent[0])


async def test_what_a_client_that_went_dark_has_not_received_waits_for_its_next_session(
    gateway: RunningGateway, back: Backend
) -> None:
    async with (
        connected(gateway.url, token=token("bob")) as awake,
        connected(gateway.url, token=token("alice")) as dark,
    ):
        await awake.subscribe(QUEUE)
        await dark.subscribe(QUEUE)
        dark.socket.transport.pause_reading()
        for _ in range(FLOOD):
            await back.push("alice", b"x" * FLOOD_BYTES)
        await back.push("bob", "after it")
        await awake.next_message()

        async def cursors_are_flushed() -> bool:
            return await back.cursor("bob") is not None

        await eventually(cursors_are_flushed)
        received_bytes = unread_bytes(dark)
        await dark.abort_socket()
    await left(back, "alice")
    cursor = await back.cursor("alice")
    got = 0 if cursor is None else cursor.seq
    assert 0 < received_bytes < FLOOD * FLOOD_BYTES
    assert got * FLOOD_BYTES <= received_bytes, "its kernel acknowledged no more"
    async with connected(gateway.url, token=token("alice")) as again:
        await again.subscribe(QUEUE)
        messages = await again.next_messages(FLOOD - got)
        assert [StreamId.parse(message["message-id"]).seq for message in messages] == list(range(got + 1, FLOOD + 1))
