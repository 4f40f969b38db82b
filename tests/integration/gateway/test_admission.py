"""Limits that hold over the whole cluster, and a storm of clients against a real gateway."""

import asyncio
import secrets
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus

from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.keys import encode_member
from pushcluster_contract.limits import LEASE_MS, SESSIONS_TTL_MS
from pushcluster_contract.scripts import Script
from pushcluster_contract.session_entry import SessionEntry
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.registry.store import SessionRegistry
from tests.support.gateways import Backend, RunningGateway, running_gateway, token
from tests.support.stomp_client import StompClient, StompError
from tests.support.waiting import eventually

LOST: Final = Incarnation("pod-of-a-lost-node", "a" * 16)
LOST_GATEWAY_S: Final = 1.0


async def try_to_connect(gateway: RunningGateway, user: str) -> StompClient | StompError | InvalidStatus:
    try:
        return await StompClient.connect(gateway.url, token=token(user))
    except (StompError, InvalidStatus) as error:
        return error


async def test_a_user_has_no_more_sessions_than_allowed_in_all_gateways_together(plane: Any, back: Backend) -> None:
    """All ask at once, so that only Redis can keep the number."""
    async with (
        running_gateway(plane, MAX_SESSIONS_PER_USER="5") as first,
        running_gateway(plane, MAX_SESSIONS_PER_USER="5") as second,
    ):
        for gateway in (first, second):
            await eventually(gateway.is_ready)
        answers = await asyncio.gather(*(try_to_connect((first, second)[n % 2], "alice") for n in range(40)))
        clients = [answer for answer in answers if isinstance(answer, StompClient)]
        refusals = [answer for answer in answers if isinstance(answer, StompError)]
        assert (len(clients), len(refusals)) == (5, 35)
        assert set(await back.sessions("alice")) == {client.session for client in clients}
        for refusal in refusals:
            assert refusal.frame is not None
            assert refusal.frame["message"] == close_codes.TOO_MANY_SESSIONS.reason
            assert int(refusal.frame["retry-after-ms"]) > 0
            assert "maxSessionsPerUser" in refusal.frame.text

        bob = await StompClient.connect(first.url, token=token("bob"))
        await clients[0].close()

        async def there_is_room_again() -> bool:
            return len(await back.sessions("alice")) == 4

        await eventually(there_is_room_again)
        again = await StompClient.connect(second.url, token=token("alice"))
        for client in (*clients[1:], again, bob):
            assert not client.closed, "the older ones stay"
            await client.close()


async def test_after_a_storm_the_pod_is_full_and_not_one_over_and_everybody_else_knows_when_to_come_again(
    plane: Any, back: Backend
) -> None:
    async with running_gateway(plane, limits=Limits(min_connect_s=60), MAX_CONNECTIONS="30") as gateway:
        await eventually(gateway.is_ready)
        answers = await asyncio.gather(*(try_to_connect(gateway, f"user{n}") for n in range(120)))
        kinds = Counter(type(answer) for answer in answers)
        assert kinds == {StompClient: 30, InvalidStatus: 90}
        assert await gateway.metric("sessions") == 30
        assert await gateway.metric('admissions_refused_total{cause="full"}') == 90
        waits: Counter[int] = Counter()
        for answer in answers:
            if isinstance(answer, InvalidStatus):
                assert answer.response.status_code == 503
                waits[int(answer.response.headers["Retry-After"])] += 1
        assert len(waits) >= 5, "they do not all come again at once"
        assert min(waits) > 0
        for answer in answers:
            if isinstance(answer, StompClient):
                await answer.close()


async def test_handshakes_past_the_rate_wait_and_all_get_in(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, HANDSHAKES_PER_SECOND="20") as gateway:
        await eventually(gateway.is_ready)
        started_at = asyncio.get_running_loop().time()
        connecting = asyncio.gather(*(try_to_connect(gateway, f"user{n}") for n in range(80)))

        async def some_wait() -> bool:
            return await gateway.metric("sockets_waiting") > 0

        await eventually(some_wait)
        assert await gateway.is_ready(), "while clients wait"
        clients = [answer for answer in await connecting if isinstance(answer, StompClient)]
        took_s = asyncio.get_running_loop().time() - started_at
        assert len(clients) == 80 <= 20 + 20 * took_s
        assert await gateway.metric("handshakes_refused_total") == 0
        for client in clients:
            await client.close()


async def test_a_newcomer_gets_in_during_a_flood_of_wrong_tokens(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, HANDSHAKES_PER_SECOND="20") as gateway:
        await eventually(gateway.is_ready)
        refused = 0

        async def flood() -> None:
            nonlocal refused
            while True:
                with suppress(StompError):
                    await StompClient.connect(gateway.url, token="wrong")
                refused += 1

        async with asyncio.TaskGroup() as attackers:
            tasks = [attackers.create_task(flood()) for _ in range(30)]
            await eventually(lambda: refused >= 60)
            for number in range(5):
                newcomer = await StompClient.connect(gateway.url, token=token(f"user{number}"))
                await newcomer.close()
            for task in tasks:
                task.cancel()


async def hold(back: Backend, incarnation: Incarnation, *, expires_ms: int) -> str:
    """Write a session of alice as a gateway does, and the gateway's lease."""
    sid, key = session_id(secrets.token_bytes(17)), back.keys.sessions("alice")
    await back.redis.zadd(back.keys.gateways, {str(incarnation): expires_ms})
    await back.redis.sadd(back.keys.gateway(incarnation), encode_member("alice", sid))
    await back.scripts.run(Script.REGISTER, [key], [sid, SessionEntry(incarnation).encode(), SESSIONS_TTL_MS, 256])
    return sid


async def now_ms(back: Backend) -> int:
    seconds, _ = await back.redis.time()
    return seconds * 1_000


async def test_sessions_of_a_lost_gateway_give_their_places_to_the_users_next_ones(plane: Any, back: Backend) -> None:
    """Nobody else removes them here: no operator runs."""
    limits = Limits(lost_gateway_s=LOST_GATEWAY_S, leaving_session_s=0.1)
    async with running_gateway(plane, limits=limits, MAX_SESSIONS_PER_USER="4") as gateway:
        await eventually(gateway.is_ready)
        at_ms = await now_ms(back)
        for _ in range(2):
            await hold(back, LOST, expires_ms=at_ms - 60_000)
        cut_off = Incarnation("pod-that-is-cut-off", "b" * 16)
        kept = await hold(back, cut_off, expires_ms=at_ms + 600_000)
        first = await StompClient.connect(gateway.url, token=token("alice"))

        async def second_comes_in() -> StompClient | None:
            answer = await try_to_connect(gateway, "alice")
            return answer if isinstance(answer, StompClient) else None

        second = await eventually(second_comes_in)
        assert second is not None
        assert set(await back.sessions("alice")) == {kept, first.session, second.session}
        assert await gateway.metric("lost_sessions_removed_total") == 2
        third = await StompClient.connect(gateway.url, token=token("alice"))
        with pytest.raises(StompError, match="maxSessionsPerUser"):
            await StompClient.connect(gateway.url, token=token("alice"))
        for client in (first, second, third):
            assert not client.closed, "the older ones stay"
            await client.close()


async def test_a_gateway_that_was_taken_for_lost_writes_its_sessions_back(plane: Any, back: Backend) -> None:
    """As after a long freeze, of which it knows nothing: every renewal of its lease was answered."""
    limits = Limits(lost_gateway_s=LOST_GATEWAY_S, walk_round_s=3_600)
    async with running_gateway(plane, limits=limits) as gateway:
        await eventually(gateway.is_ready)
        alice = await StompClient.connect(gateway.url, token=token("alice"))
        await alice.subscribe("/user/queue/demo")
        before = await back.sessions("alice")
        # In this order: a renewal in between finds a lease and repairs nothing.
        await back.redis.delete(back.keys.sessions("alice"))
        await back.redis.zadd(back.keys.gateways, {str(gateway.incarnation): 0})

        async def is_back() -> bool:
            return await back.sessions("alice") == before

        await eventually(is_back)
        assert await gateway.metric('resyncs_total{cause="lease_lost"}') == 1
        assert not alice.closed
        await alice.close()


async def test_a_gateway_that_comes_back_while_its_sessions_are_removed_is_told_so(
    plane: Any, back: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = SessionRegistry(
        back.redis,
        back.scripts,
        back.keys,
        Incarnation("pod-that-removes", "c" * 16),
        kept_delivered_ms=1_000,
        max_sessions_per_user=1,
        lost_gateway_ms=60_000,
    )
    sid = await hold(back, LOST, expires_ms=0)
    renewal: list[str | int] = [str(LOST), LEASE_MS, 60_000]
    find = registry._find_lost

    async def find_just_before_it_comes_back(users: Any) -> Any:
        found = await find(users)
        assert await back.scripts.run(Script.RENEW_LEASE, [back.keys.gateways], renewal) == 0, "it resyncs"
        return found

    monkeypatch.setattr(registry, "_find_lost", find_just_before_it_comes_back)
    assert await asyncio.gather(*(registry.remove_lost(user) for user in ("alice", "alice", "bob"))) == [1, 1, 0]
    assert sid not in await back.sessions("alice")
    assert await back.scripts.run(Script.RENEW_LEASE, [back.keys.gateways], renewal) == 0, "it resyncs once more"
    await registry.close()


async def test_a_page_that_is_loaded_again_takes_the_only_place_over_from_itself(plane: Any, back: Backend) -> None:
    """Its new connection may come, at another gateway, before the old one has left the registry."""
    limits = Limits(leaving_session_s=3.0)
    async with (
        running_gateway(plane, limits=limits, MAX_SESSIONS_PER_USER="1") as first,
        running_gateway(plane, limits=limits, MAX_SESSIONS_PER_USER="1") as second,
    ):
        for gateway in (first, second):
            await eventually(gateway.is_ready)
        old = await StompClient.connect(first.url, token=token("alice"))
        connecting = asyncio.create_task(StompClient.connect(second.url, token=token("alice")))

        async def the_new_one_asks() -> bool:
            return await second.metric("sessions") == 1

        await eventually(the_new_one_asks)
        await old.close()
        new = await connecting
        assert set(await back.sessions("alice")) == {new.session}
        await new.close()
