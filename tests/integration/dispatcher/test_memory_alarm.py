"""RabbitMQ short of memory: it stops reading from connections that publish, and nothing that was confirmed is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from tests.support.containers import Services
from tests.support.dispatchers import consuming, producer, running_dispatcher
from tests.support.gateways import running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

COUNT: Final = 2_000
"""Four times the prefetch of alice's partition, so that most is appended when the dispatcher knows of the alarm."""
MALFORMED: Final = 20


@asynccontextmanager
async def memory_alarm(services: Services) -> AsyncIterator[None]:
    """Have the broker believe inside the block that it uses too much memory."""

    async def set_watermark(value: str) -> None:
        await asyncio.to_thread(services.rabbitmq.exec, "rabbitmqctl", "set_vm_memory_high_watermark", value)

    await set_watermark("0.0000001")
    try:
        yield
    finally:
        await set_watermark("0.6")


@pytest.mark.parametrize("mode", ["Session", "Gateway", "Broadcast"])
async def test_ingress_is_drained_under_the_alarm_and_clients_get_everything_soon_after_it(
    plane: Plane, services: Services, mode: str
) -> None:
    bodies = [str(n) for n in range(COUNT)]
    async with (
        running_gateway(plane, ROUTING_MODE=mode) as gateway,
        producer(plane) as producing,
        connected(gateway.url, token=token("alice")) as alice,
    ):
        await alice.subscribe("/user/queue/demo")
        for body in bodies:
            producing.send("alice", body, message_id=body)
        for n in range(MALFORMED):
            producing.send(f"user{n}", str(n), destination=None)
        await producing.confirmed()
        variables = {"ROUTING_MODE": mode, "OFFLINE_MAX_PER_DESTINATION": "5000"}
        async with AsyncExitStack() as alarm:
            await alarm.enter_async_context(memory_alarm(services))
            async with running_dispatcher(plane, **variables) as dispatcher:
                await dispatcher.wait_for_metric("acknowledged_total", COUNT)
                assert await dispatcher.metric("copies_left_out_total") > 0
                during = producing.send("carol", "during", message_id="during")
                await alarm.aclose()
                # Nothing new for alice shows her gateway a hole: the dispatcher has told it to look at the log.
                assert [message.text for message in await alice.next_messages(COUNT)] == bodies
                assert await gateway.metric('resyncs_total{cause="copies_left_out"}') >= 1
                await dispatcher.wait_for_metric("acknowledged_total", COUNT + MALFORMED + 1)
                assert await dispatcher.metric("partition_resets_total") == 0
                async with consuming(plane) as rejected:
                    await eventually(lambda: len(rejected) == MALFORMED)
                assert (await during).name == "CONFIRMED"
                producing.send("alice", "after", message_id="after")
                assert (await alice.next_message()).text == "after"
