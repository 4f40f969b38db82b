"""What clients refuse by NACK, with a real gateway, RabbitMQ and Redis."""

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.topology import REFUSED_QUEUE, REJECTED_EXCHANGE, REJECTED_QUEUE
from pushcluster_gateway.limits import Limits
from pushcluster_runtime.amqp import ConfirmOutcome
from tests.support.amqp_admin import AmqpAdmin
from tests.support.gateways import Backend, running_gateway, token
from tests.support.planes import Plane
from tests.support.stomp_client import connected
from tests.support.waiting import eventually

MOST = 3
LIMITS = Limits(max_refused_copies=MOST, refused_copies_per_s=0.001)


@pytest.mark.parametrize("sessions", [1, 2])
async def test_a_client_that_refuses_everything_leaves_others_evidence_where_it_is(
    plane: Plane, back: Backend, amqp_admin: AmqpAdmin, sessions: int
) -> None:
    async def holds(queue: str, count: int) -> bool:
        return (await amqp_admin.queues(plane.vhost))[queue] == count

    malformed = await back.channel.publish(
        REJECTED_EXCHANGE, "", b"malformed", BasicProperties(delivery_mode=2), mandatory=True
    )
    assert malformed is ConfirmOutcome.CONFIRMED
    async with running_gateway(plane, limits=LIMITS) as gateway:
        await eventually(gateway.is_ready)
        for n in range(MOST + 1):
            await back.push("mallory", f"{n}")
        for _ in range(sessions):
            async with connected(gateway.url, token=token("mallory")) as mallory:
                await mallory.subscribe("/user/queue/demo", ack="client-individual", last_message_id="0-0")
                for message in await mallory.next_messages(MOST + 1):
                    await mallory.nack(message, receipt=True)  # the receipt says that it counts as handled
        await eventually(lambda: holds(REFUSED_QUEUE, MOST))
        assert await holds(REJECTED_QUEUE, 1)
        assert await gateway.metric("messages_rejected_total") == MOST
        assert await gateway.metric("refusals_not_copied_total") == sessions * (MOST + 1) - MOST

        await back.push("alice", "hers")
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo", ack="client-individual")
            await alice.nack(await alice.next_message(), receipt=True)
        await eventually(lambda: holds(REFUSED_QUEUE, MOST + 1))
