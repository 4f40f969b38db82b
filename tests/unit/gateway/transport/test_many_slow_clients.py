"""Many clients go dark together: what all of them hold is bounded, and who reads feels nothing."""

import asyncio
import fcntl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.transport.connection import WebSocketConnection
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

SIOCOUTQ: Final = 0x5411
DARK: Final = 30
MESSAGES: Final = 70
BODY_BYTES: Final = 10_000
FRAME_BYTES: Final = BODY_BYTES + 500
KERNEL_BYTES: Final = 4 * 65_536
"""A few segments that are on their way, and UNSENT_BYTES. Without that option it is 4 MB."""
LIMITS: Final = Limits(max_outbox_bytes=100_000, max_all_outboxes_bytes=600_000, max_control_bytes=20_000)
"""Without the bound on all of them together, the dark clients would hold five times as much."""


@asynccontextmanager
async def dark_clients(server: RunningServer, count: int = DARK) -> AsyncIterator[list[StompClient]]:
    """Connect and subscribe clients that read nothing from now on."""
    clients: list[StompClient] = []
    async with AsyncExitStack() as stack:
        for number in range(count):
            client = await StompClient.connect(server.url, token=token(f"dark{number}"))
            stack.push_async_callback(client.abort_socket)
            await client.subscribe("/user/queue/demo")
            client.socket.transport.pause_reading()
            clients.append(client)
        yield clients


def held_bytes(server: RunningServer) -> int:
    """Return what waits in user space for all clients, as their transports see it."""
    return sum(
        each.outbox.end_offset - each.outbox.written_bytes + each._transport.get_write_buffer_size()
        for each in server.server.connections
    )


def body(number: int) -> bytes:
    return b"%d " % number + b"x" * BODY_BYTES


async def test_clients_that_go_dark_together_hold_no_more_than_the_budget_and_miss_nothing() -> None:
    async with running_server(LIMITS, manual_clock=True) as server, dark_clients(server) as clients:
        most = 0
        for number in range(MESSAGES):
            for each in range(DARK):
                server.services.push(f"dark{each}", body(number))
                most = max(most, held_bytes(server))
            await asyncio.sleep(0)
            most = max(most, held_bytes(server))
        assert most <= LIMITS.max_all_outboxes_bytes + FRAME_BYTES
        assert most >= LIMITS.max_all_outboxes_bytes / 2, "they do hold something"
        assert server.server.outboxes.held_bytes == held_bytes(server)
        assert sum(map(kernel_bytes, server.server.connections)) <= DARK * KERNEL_BYTES
        for client in clients:
            client.socket.transport.resume_reading()
        for client in clients:
            messages = await client.next_messages(MESSAGES)
            assert [message.body.split()[0] for message in messages] == [b"%d" % n for n in range(MESSAGES)]
        await eventually(lambda: server.server.outboxes.held_bytes == 0)


async def test_who_reads_gets_everything_at_once_while_the_others_are_dark() -> None:
    async with running_server(LIMITS, manual_clock=True) as server, dark_clients(server):
        for number in range(MESSAGES):
            for each in range(DARK):
                server.services.push(f"dark{each}", body(number))
            await asyncio.sleep(0)
        async with connected(server.url, token=token("fast")) as fast:
            await fast.subscribe("/user/queue/demo")
            for number in range(20):
                server.services.push("fast", body(number))
                assert (await fast.next_message(within_s=5)).body == body(number)
        assert server.services.metrics.closes["slow_consumer"] == 0


async def test_when_the_budget_is_used_up_the_longest_stalled_are_closed_and_who_waited_goes_on() -> None:
    """The dark clients fill it with one large frame each, which an outbox may always exceed its share by."""
    limits = Limits(max_outbox_bytes=200_000, max_all_outboxes_bytes=600_000)
    async with running_server(limits, manual_clock=True) as server, dark_clients(server):
        for _ in range(8):
            for each in range(DARK):
                server.services.push(f"dark{each}", b"x" * 60_000)
            await asyncio.sleep(0)
        async with connected(server.url, token=token("fast")) as fast:
            await fast.subscribe("/user/queue/demo")
            for client in server.services.clients[:DARK]:
                client.socket.send(b"y" * 60_000)  # as an answer, which always passes
            assert server.server.outboxes.free_bytes <= 0
            server.services.push("fast", b"quick")
            assert server.server.outboxes.wanted
            assert (await fast.next_message(within_s=5)).body == b"quick"
            closes = server.services.metrics.closes
            await eventually(lambda: 0 < closes["slow_consumer"] < DARK)
            await eventually(lambda: server.server.outboxes.free_bytes > 0)
            assert not fast.closed


async def test_the_kernel_holds_little_for_a_client_that_reads_nothing() -> None:
    async with running_server(manual_clock=True) as server, dark_clients(server, 1):
        (connection,) = server.server.connections
        for number in range(800):
            server.services.push("dark0", body(number))
            await asyncio.sleep(0)
        assert kernel_bytes(connection) <= KERNEL_BYTES


def kernel_bytes(connection: WebSocketConnection) -> int:
    """Return the bytes that the kernel has taken and the client's has not acknowledged."""
    descriptor = connection._transport.get_extra_info("socket").fileno()
    (size,) = struct.unpack("i", fcntl.ioctl(descriptor, SIOCOUTQ, bytes(4)))
    return int(size)


async def test_a_client_that_is_closed_to_relieve_the_others_learns_why() -> None:
    async with running_server(LIMITS, manual_clock=True) as server, dark_clients(server, 1) as (client,):
        server.services.push("dark0", b"x")
        (connection,) = server.server.connections
        connection.evict(close_codes.SLOW_CONSUMER)
        client.socket.transport.resume_reading()
        error = await client.expect_error()
        assert error["message"] == close_codes.SLOW_CONSUMER.reason


async def test_who_is_told_to_go_and_reads_nothing_gives_way_before_others_are_closed() -> None:
    limits = Limits(max_outbox_bytes=200_000, max_all_outboxes_bytes=600_000, close_timeout_s=60)
    async with running_server(limits, manual_clock=True) as server, dark_clients(server, 10):
        slow, *told = server.services.clients
        for _ in range(40):
            server.services.push("dark0", body(0))
            await asyncio.sleep(0)
        server.clock.now += 1
        for client in told:
            client.socket.send(b"y" * 1_000_000)  # as answers, which always pass
            client.refuse(close_codes.BAD_REQUEST)
        await asyncio.sleep(0)
        assert server.server.outboxes.free_bytes <= 0
        await eventually(lambda: server.server.outboxes.free_bytes > 0, within_s=5)
        assert not slow.ended
