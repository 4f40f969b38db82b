"""What clients leave behind is freed at once, by reference counting. The garbage collector finds nothing to do.

A cycle would wait for a full collection, which stops the gateway for as long as it takes to visit every object of all
sessions (`pushcluster_runtime/garbage.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import Protocol

from pushcluster_gateway.limits import Limits
from tests.support.fake_services import RunningServer, running_server
from tests.support.garbage import Cycles, finding_cycles
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

SESSIONS = 3
End = Callable[[StompClient], Awaitable[object]]


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(Limits(handshake_timeout_s=3_600)) as running:
        yield running


def ours(cycles: Cycles) -> list[str]:
    """Return the types of what the server has left. The client runs in this process too."""
    return [
        each.__name__
        for each in cycles.types
        if each.__module__.startswith("pushcluster_")
        or (issubclass(each, Protocol) and not issubclass(each, ClientProtocol))
    ]


async def all_gone(server: RunningServer, ended: int) -> None:
    """Wait for the ends of all sessions, and forget what the played services know of them."""
    await eventually(lambda: len(server.services.left) == ended and not server.server.sockets)
    for known in (server.services.clients, server.services.left, server.services.subscriptions):
        known.clear()
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [StompClient.disconnect, StompClient.close, StompClient.abort_socket])
async def test_a_session_that_ends_leaves_no_cycle(server: RunningServer, end: End) -> None:
    async def live(number: int) -> None:
        user = f"user-{number}"
        async with connected(server.url, token=token(user)) as client:
            await client.subscribe("/user/queue/demo")
            for n in range(3):
                server.services.push(user, b"%d" % n)
            await client.next_messages(3)
            await end(client)

    await live(0)  # what is made once for all stays
    await all_gone(server, 1)
    with finding_cycles() as cycles:
        for number in range(SESSIONS):
            await live(number)
        await all_gone(server, SESSIONS)
    assert ours(cycles) == []


@pytest.mark.parametrize(
    "request_",
    [b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff\r\n\r\n", b"GET /ws HTTP/1.1\r\nHost: "],
    ids=["refused", "malformed", "cut short"],
)
async def test_a_request_that_is_no_handshake_leaves_no_cycle(server: RunningServer, request_: bytes) -> None:
    await server.http(request_, eof=True)
    await eventually(lambda: not server.server.sockets)
    with finding_cycles() as cycles:
        for _ in range(SESSIONS):
            await server.http(request_, eof=True)
        await eventually(lambda: not server.server.sockets)
        await asyncio.sleep(0)
    assert ours(cycles) == []
