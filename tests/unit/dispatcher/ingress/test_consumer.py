import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import INGRESS_PARTITIONS
from pushcluster_dispatcher.ingress import consumer as consumer_module
from pushcluster_dispatcher.ingress import refused_partitions
from pushcluster_dispatcher.ingress.consumer import APPEND_CONNECTIONS, IngressConsumer, IngressServices
from pushcluster_dispatcher.ingress.time_limit import HeldTooLong
from pushcluster_dispatcher.settings import DRAIN_TIMEOUT_S
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel
from tests.support.clock import moved_clock
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

    wait_connected = wire


class EndlessSession:
    """A partition's session that does not come to its end."""

    def __init__(self) -> None:
        self.finished = False
        self.held_too_long = asyncio.Event()

    def finish(self) -> None:
        self.finished = True

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def wait_held_too_long(self) -> None:
        await self.held_too_long.wait()


async def test_a_session_may_finish_until_the_drain_timeout_and_not_longer() -> None:
    session, stop = EndlessSession(), asyncio.Event()
    stop.set()
    with moved_clock() as clock:
        running = asyncio.create_task(consumer_module._run_until_broken(cast(Any, session), {}, stop))
        await clock.move(0)
        assert session.finished
        await clock.move(DRAIN_TIMEOUT_S - 0.001)
        assert not running.done()
        await clock.move(0.001)
        assert running.done()
        with pytest.raises(Unavailable, match="unfinished after 10 s"):
            await running


async def test_a_session_that_has_held_messages_for_too_long_is_ended() -> None:
    session = EndlessSession()
    running = asyncio.create_task(consumer_module._run_until_broken(cast(Any, session), {}, asyncio.Event()))
    session.held_too_long.set()
    with pytest.raises(HeldTooLong):
        await running


def test_the_partitions_share_the_connections_for_appends_evenly_and_keep_theirs() -> None:
    links: Any = [object() for _ in range(APPEND_CONNECTIONS)]
    rest: Any = dict.fromkeys(("settings", "keys", "barrier", "publisher", "partition", "new_backoff"))
    services = IngressServices(links=links, **rest)
    given = [services.link(n) for n in range(INGRESS_PARTITIONS)]
    assert [given.count(each) for each in links] == [INGRESS_PARTITIONS // APPEND_CONNECTIONS] * APPEND_CONNECTIONS
    assert given == [services.link(n) for n in range(INGRESS_PARTITIONS)]


async def test_a_refusal_does_not_grow_old_while_a_partition_waits_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: object, **__: object) -> RefusingAmqp:
        return RefusingAmqp()

    monkeypatch.setattr(consumer_module, "AmqpConnection", SimpleNamespace(connect=connect))
    monkeypatch.setattr(refused_partitions, "GRACE_S", 0.0)
    link = PlayedLink()
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(amqp_url="", pod_name="pod"),
        link=lambda _: link,
        publisher=PlayedLink(),
        partition=SimpleNamespace(metrics=SimpleNamespace(resets=SimpleNamespace(inc=lambda: None))),
        new_backoff=lambda: Backoff(lambda: 0.0),
    )
    ingress = IngressConsumer(services)
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
