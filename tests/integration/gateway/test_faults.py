"""A gateway while Redis, RabbitMQ or its own registry entries go away: sockets stay, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from local_run.containers import Container
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import encode_member
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_runtime.redis.incarnation_removal import remove_incarnation
from tests.support.amqp_admin import AmqpAdmin
from tests.support.containers import Services, close_amqp_connections, down, kill_and_start, paused
from tests.support.gateways import Backend, RunningGateway, backend, running_gateway, token
from tests.support.stomp_client import StompClient, StompError, connected
from tests.support.waiting import WITHIN_S, eventually


@pytest.fixture
async def gateway(plane: Any, back: Backend) -> AsyncIterator[RunningGateway]:
    async with running_gateway(plane, limits=Limits(walk_round_s=3_600, own_queue_after_s=0.1)) as running:
        await eventually(running.is_ready)
        yield running


async def texts(client: StompClient, count: int, within_s: float = WITHIN_S) -> list[str]:
    return [message.text for message in await client.next_messages(count, within_s)]


async def resynced(gateway: RunningGateway, cause: str) -> None:
    async def done() -> bool:
        return await gateway.metric(f'resyncs_total{{cause="{cause}"}}') >= 1 and await gateway.is_ready()

    await eventually(done)


async def test_after_the_amqp_connection_was_killed_copies_come_again(
    plane: Any, services: Services, gateway: RunningGateway
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        async with backend(plane) as back:
            await alice.subscribe("/user/queue/demo")
            await alice.subscribe("/user/queue/other", id="other")
            await back.push("alice", "m0")
            await texts(alice, 1)
        await close_amqp_connections(services, plane.vhost)
        async with backend(plane) as back:
            await back.push("alice", "m1")
            assert await texts(alice, 1) == ["m1"]
            await resynced(gateway, "amqp_reconnected")

            async def copies_are_enough_again() -> bool:
                pages = await gateway.metric("catchup_pages_total")
                await back.push("alice", "q")
                await back.push("alice", "o", destination=Destination("queue", "other"))
                assert sorted(await texts(alice, 2)) == ["o", "q"]
                return await gateway.metric("catchup_pages_total") == pages

            await eventually(copies_are_enough_again)
            assert [outcome.name for outcome in back.outcomes[-2:]] == ["CONFIRMED", "CONFIRMED"]
        assert not alice.closed


async def test_while_rabbitmq_is_away_sessions_connect_and_get_what_the_log_has(
    services: Services, gateway: RunningGateway, back: Backend
) -> None:
    field = str(gateway.incarnation)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        async with down(services.rabbitmq):
            await eventually(lambda: serves_without(gateway, "no connection to RabbitMQ"))
            back.send_copies = False
            await back.push("bob", "was there before")
            async with connected(gateway.url, token=token("bob")) as bob:
                await bob.subscribe("/user/queue/demo")
                assert await texts(bob, 1) == ["was there before"]
                await back.push("bob", "came meanwhile")
                assert await texts(bob, 1) == ["came meanwhile"]
                await back.push("alice", "came meanwhile")
                assert await texts(alice, 1) == ["came meanwhile"]

                async def the_operator_is_told() -> bool:
                    return await back.redis.hget(back.keys.without_broker, field) is not None

                await eventually(the_operator_is_told)
                assert not bob.closed
        await resynced(gateway, "amqp_reconnected")

        async def the_operator_hears_that_it_is_over() -> bool:
            return await back.redis.hget(back.keys.without_broker, field) is None

        await eventually(the_operator_hears_that_it_is_over)
        assert not alice.closed


async def serves_without(gateway: RunningGateway, trouble: str) -> bool:
    """Tell whether the gateway names this trouble. It must stay in its Service."""
    status, text = await gateway.admin("/readyz")
    assert status == 200
    return trouble in text


async def holds_alone(back: Backend, user: str, client: StompClient) -> bool:
    """Tell whether the registry has this session of the user and no other."""
    return list(await back.sessions(user)) == [client.session]


async def test_a_queue_that_somebody_deletes_is_made_again(
    plane: Any, services: Services, amqp_admin: AmqpAdmin, gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "m0")
        await texts(alice, 1)
        (name,) = await eventually(lambda: subscription_queues(amqp_admin, plane.vhost))
        await asyncio.to_thread(services.rabbitmq.exec, "rabbitmqctl", "delete_queue", "--vhost", plane.vhost, name)

        async def there_is_a_new_one() -> bool:
            names = await subscription_queues(amqp_admin, plane.vhost)
            return len(names) == 1 and names != [name]

        await eventually(there_is_a_new_one)
        await back.push("alice", "m1")
        assert await texts(alice, 1) == ["m1"]
        assert back.outcomes[-1].name == "CONFIRMED"


async def subscription_queues(amqp_admin: AmqpAdmin, vhost: str) -> list[str]:
    return [name for name in await amqp_admin.queues(vhost) if name.startswith("stomp-subscription-")]


async def test_a_gateway_that_was_removed_by_mistake_comes_back_and_loses_nothing(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        removed = await remove_incarnation(back.redis, back.scripts, back.keys, gateway.incarnation)
        assert removed == 1
        back.send_copies = False  # as nobody is known to hold her, until the gateway renews its lease
        await back.push("alice", "while nobody was known to hold her")
        back.send_copies = True
        assert await texts(alice, 1) == ["while nobody was known to hold her"]
        await resynced(gateway, "lease_lost")
        await eventually(lambda: holds_alone(back, "alice", alice))
        assert await back.members(gateway.incarnation) == 1
        await back.push("alice", "live again")
        assert await texts(alice, 1) == ["live again"]
        assert back.outcomes[-1].name == "CONFIRMED"


@pytest.mark.parametrize("away", [down, paused])
async def test_while_redis_is_away_the_gateway_says_when_to_come_back_and_keeps_nothing(
    away: Callable[[Container], AbstractAsyncContextManager[None]], services: Services, gateway: RunningGateway
) -> None:
    async with away(services.redis):
        await eventually(lambda: serves_without(gateway, "no lease"))
        before = len(asyncio.all_tasks())
        for n in range(20):
            with pytest.raises(StompError, match="try again") as caught:
                await StompClient.connect(gateway.url, token=token(f"user-{n}"))
            assert caught.value.frame is not None
            assert int(caught.value.frame["retry-after-ms"]) > 0
        unavailable = f'closes_total{{cause="{close_codes.UNAVAILABLE.name}"}}'
        assert await gateway.metric(unavailable) == 20
        await eventually(lambda: len(asyncio.all_tasks()) <= before + 2)
    await eventually(gateway.is_ready)
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")


async def test_after_redis_was_killed_and_restarted_everything_is_written_back(
    services: Services, gateway: RunningGateway, back: Backend
) -> None:
    async with (
        connected(gateway.url, token=token("alice")) as alice,
        connected(gateway.url, token=token("idle")) as idle,
    ):
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "before")
        await texts(alice, 1)
        await kill_and_start(services.redis)
        await resynced(gateway, "redis_restarted")
        await back.push("alice", "after")
        assert await texts(alice, 1) == ["after"]
        await eventually(lambda: holds_alone(back, "idle", idle))
        assert not alice.closed


async def test_a_redis_that_lost_everything_is_filled_again_and_the_gap_is_told(
    gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        await back.push("alice", "old")
        await texts(alice, 1)
        await back.redis.flushall()
        await back.push("alice", "new")
        message = await alice.next_message()
        assert (message.text, message["recovered"]) == ("new", "false")
        await resynced(gateway, "lease_lost")
        await eventually(lambda: holds_alone(back, "alice", alice))


async def test_while_redis_is_away_sockets_stay_and_subscribe_asks_to_retry(
    services: Services, gateway: RunningGateway, back: Backend
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe("/user/queue/demo")
        async with down(services.redis):
            with pytest.raises(StompError, match=r"reference [0-9a-f]{8}") as caught:
                await alice_elsewhere(gateway)
            assert caught.value.frame is not None
            assert int(caught.value.frame["retry-after-ms"]) > 0
            await eventually(lambda: serves_without(gateway, "no lease"))
            assert (await gateway.admin("/healthz"))[0] == 200
            assert not alice.closed
        await eventually(gateway.is_ready)

        async def pushed() -> bool:
            try:
                await back.push("alice", "after")
            except Unavailable:
                return False
            return True

        await eventually(pushed)
        assert await texts(alice, 1) == ["after"]


async def alice_elsewhere(gateway: RunningGateway) -> None:
    client = await StompClient.connect(gateway.url, token=token("alice"))
    try:
        await client.subscribe("/user/queue/demo")
    finally:
        await client.close()


async def test_a_frozen_redis_costs_a_lease_and_a_session_is_registered_only_under_a_new_one(
    services: Services, gateway: RunningGateway, back: Backend
) -> None:
    assert str(gateway.incarnation) in await back.leases()  # over the connection that waits below
    async with paused(services.redis):
        await eventually(lambda: serves_without(gateway, "no lease"))
        # Its order waits in the frozen server, so that it comes before any renewal that the gateway makes afterwards.
        removing = asyncio.ensure_future(back.redis.zrem(back.keys.gateways, str(gateway.incarnation)))
    assert await removing == 1
    await eventually(gateway.is_ready)
    async with connected(gateway.url, token=token("alice")) as alice:
        assert list(await back.sessions("alice")) == [alice.session]
        assert str(gateway.incarnation) in await back.leases()


async def test_sessions_that_left_while_redis_was_away_leave_the_registry_afterwards(
    services: Services, gateway: RunningGateway, back: Backend
) -> None:
    alice = await StompClient.connect(gateway.url, token=token("alice"))
    await alice.subscribe("/user/queue/demo")
    message_id = await back.push("alice", "m0")
    await alice.next_message()
    async with down(services.redis):
        await alice.close()

    async def is_gone() -> bool:
        try:
            return not await back.sessions("alice")
        except Exception as error:
            raise AssertionError from error

    await eventually(is_gone)

    async def cursor_has_moved() -> bool:
        return str(await back.cursor("alice")) == message_id

    await eventually(cursor_has_moved)


async def test_the_walk_repairs_a_lost_copy_when_nothing_else_happens(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, limits=Limits(walk_round_s=1)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe("/user/queue/demo")
            back.send_copies = False
            await back.push("alice", "lost on its way")
            assert await texts(alice, 1) == ["lost on its way"]
            await back.redis.delete(back.keys.sessions("alice"))
            await eventually(lambda: holds_alone(back, "alice", alice))


async def test_at_start_earlier_processes_of_the_same_pod_are_removed(plane: Any, back: Backend) -> None:
    stale, other, strange = Incarnation("pod-1", "a" * 16), Incarnation("pod-2", "b" * 16), "no incarnation"
    await back.redis.zadd(back.keys.gateways, {strange: 0})  # by somebody's hand
    for incarnation, user in ((stale, "alice"), (other, "bob")):
        sid = "s" * 26
        await back.redis.zadd(back.keys.gateways, {str(incarnation): 1})
        await back.redis.sadd(back.keys.gateway(incarnation), encode_member(user, sid))
        await back.redis.hset(back.keys.sessions(user), sid, SessionEntry(incarnation).encode())
    async with running_gateway(plane, POD_UID="pod-1") as gateway:

        async def only_the_stale_one_is_gone() -> bool:
            assert sorted(await back.leases()) == sorted([strange, str(other), str(gateway.incarnation)])
            return not await back.sessions("alice")

        await eventually(only_the_stale_one_is_gone)
        assert list(await back.sessions("bob")) == ["s" * 26]


async def test_one_session_too_many_of_a_user_is_refused(gateway: RunningGateway, back: Backend) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        for n in range(63):
            sid = "".join("abcdefghijklmnopqrstuvwxyz"[int(digit)] for digit in f"{n:026d}")
            await back.redis.hset(back.keys.sessions("alice"), sid, SessionEntry(gateway.incarnation).encode())
        with pytest.raises(StompError, match="too many sessions") as caught:
            await StompClient.connect(gateway.url, token=token("alice"))
        assert caught.value.frame is not None
        assert "64" in caught.value.frame.text
        await alice.subscribe("/user/queue/demo")
