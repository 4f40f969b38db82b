"""Mode Session, with more pushes to a gateway than single ones are: they are joined, and no client notices."""

from contextlib import AsyncExitStack
from typing import Final

from pushcluster_gateway.limits import Limits
from tests.support.dispatchers import Producer, RunningDispatcher
from tests.support.gateways import running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

USERS: Final = [f"user{n}" for n in range(20)]
ROUNDS: Final = 60
"""Messages to each user."""
FEW: Final = 2
"""Holes that a change of the path may show in spite of all care. Without any, there is one for many a client."""
AT_ONCE: Final = Limits(own_queue_after_s=0.0)


async def test_every_client_gets_a_flood_in_order_and_once_and_reads_no_log_for_it(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    async with running_gateway(plane, limits=AT_ONCE) as gateway, AsyncExitStack() as stack:
        await eventually(gateway.is_ready)
        clients = {user: await stack.enter_async_context(connected(gateway.url, token=token(user))) for user in USERS}
        for client in clients.values():
            await client.subscribe("/user/queue/demo")

        async def have_queues() -> bool:
            return await gateway.metric("subscriptions_with_queue") == len(USERS)

        await eventually(have_queues)
        bodies = [str(n) for n in range(ROUNDS)]
        for body in bodies:
            for user in USERS:
                producing.send(user, body)
        await producing.confirmed()
        for client in clients.values():
            assert [message.text for message in await client.next_messages(ROUNDS)] == bodies
        for user in USERS:
            producing.send(user, "the last")
        for client in clients.values():
            assert [message.text for message in await client.next_messages(1)] == ["the last"]
        assert await dispatcher.metric("copies_joined_total") > 0
        assert await dispatcher.metric("copies_returned_total") == 0
        assert await gateway.metric("holes_total") <= FEW
