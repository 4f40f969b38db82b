import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_dispatcher import amqp as amqp_module
from pushcluster_dispatcher import refusals
from pushcluster_dispatcher.amqp import Ingress
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel
from tests.support.waiting import eventually


class RefusingAmqp:
    """A connection that opens no channel."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def channel(self, **_: object) -> None:
        raise Unavailable("RabbitMQ: 404")

    async def close(self) -> None: ...


class PlayedLink:
    """Redis, or the connection for copies: there while `is_connected`."""

    is_connected = True

    async def wire(self) -> object:
        if not self.is_connected:
            await asyncio.Event().wait()
        return object()

    connection = wire


async def test_a_refusal_does_not_grow_old_while_a_partition_waits_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: object, **__: object) -> RefusingAmqp:
        return RefusingAmqp()

    monkeypatch.setattr(amqp_module, "Amqp", SimpleNamespace(connect=connect))
    monkeypatch.setattr(refusals, "GRACE_S", 0.0)
    link = PlayedLink()
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(amqp_url="", pod_name="pod"),
        link=link,
        outlet=PlayedLink(),
        steps=SimpleNamespace(metrics=SimpleNamespace(resets=SimpleNamespace(inc=lambda: None))),
        new_backoff=lambda: Backoff(lambda: 0.0),
    )
    ingress = Ingress(services)
    running = asyncio.create_task(ingress.run(asyncio.Event()))

    async def is_refused() -> bool:
        return "404" in ingress.refusal()

    async def is_forgotten() -> bool:
        return ingress.count_refused() == 0

    try:
        await eventually(is_refused, 5)
        link.is_connected = False
        await eventually(is_forgotten, 5)
    finally:
        await cancel(running)
