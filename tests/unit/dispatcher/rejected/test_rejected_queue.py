"""What is removed from a queue of rejected messages, and when."""

import asyncio
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_dispatcher.rejected.messages import RejectedMessage, build_replay
from pushcluster_dispatcher.rejected.queue import RejectedQueue
from pushcluster_runtime.amqp import AmqpChannel, ConfirmOutcome, Delivery

HEADERS = {"destination": "/queue/demo", "pushcluster-user": "alice"}


class PlayedChannel:
    """Answers with one outcome, and notes what happens in which order."""

    def __init__(self, outcome: ConfirmOutcome | None) -> None:
        self.happened: list[str] = []
        self.confirm: asyncio.Future[ConfirmOutcome] = asyncio.get_running_loop().create_future()
        if outcome is not None:
            self.confirm.set_result(outcome)

    def publish(self, exchange: str, user: str, *_: Any, mandatory: bool) -> asyncio.Future[ConfirmOutcome]:
        assert mandatory
        self.happened.append(f"published to {exchange} for {user}")
        return self.confirm

    def ack(self, tag: int) -> None:
        self.happened.append(f"acknowledged {tag}")


def replaying(channel: PlayedChannel) -> asyncio.Task[None]:
    message = RejectedMessage.of(Delivery(7, "", "", False, BasicProperties(headers=HEADERS), b"hi", ""))
    queue = RejectedQueue(cast(AmqpChannel, channel), "push.rejected")
    return asyncio.create_task(queue.replay(7, build_replay(message)))


async def test_a_replayed_message_is_removed_only_after_its_confirm() -> None:
    channel = PlayedChannel(None)
    task = replaying(channel)
    for _ in range(5):
        await asyncio.sleep(0)
    assert channel.happened == ["published to push for alice"]
    channel.confirm.set_result(ConfirmOutcome.CONFIRMED)
    await task
    assert channel.happened == ["published to push for alice", "acknowledged 7"]


@pytest.mark.parametrize("outcome", [ConfirmOutcome.NACKED, ConfirmOutcome.RETURNED])
async def test_a_message_that_the_broker_does_not_take_stays_in_the_queue(outcome: ConfirmOutcome) -> None:
    channel = PlayedChannel(outcome)
    with pytest.raises(Unavailable, match="full"):
        await replaying(channel)
    assert channel.happened == ["published to push for alice"]
