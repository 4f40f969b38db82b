"""A gateway against real Redis and RabbitMQ: what a user's clients get."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.gateways import Backend, RunningGateway, backend, running_gateway, token
from tests.support.stomp_client import connected
from tests.support.waiting import eventually


@pytest.fixture
async def back(plane: Any) -> AsyncIterator[Backend]:
    async with backend(plane) as running:
        yield running


@pytest.fixture
async def gateway(plane: Any, back: Backend) -> AsyncIterator[RunningGateway]:
    async with running_gateway(plane) as running:
        await eventually(running.is_ready, within_s=10)
        yield running


async def test_connected_names_session_user_and_gateway(gateway: RunningGateway) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        assert alice.user_name == "alice"
        assert alice.gateway == gateway.pod_name
        assert len(alice.session) == 26
        assert alice.connected["server"].startswith("PushCluster/")
        assert alice.connected["version"] == "1.2"


async def test_a_message_after_the_subscribe_is_delivered(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo", id="s1")
        message_id = await back.push(
            "alice", "hello", message_id="m-1", content_type="text/plain", headers={"x-kind": "a:b\nc"}
        )
        message = await alice.next_message()
        assert message.body == b"hello"
        assert message.headers == {
            "destination": "/user/queue/demo",
            "subscription": "s1",
            "message-id": message_id,
            "producer-message-id": "m-1",
            "content-type": "text/plain",
            "content-length": "5",
            "x-kind": "a:b\nc",
        }
        assert back.outcomes[-1].name == "CONFIRMED"
