"""Limits that hold over the whole cluster, and a storm of clients against a real gateway."""

import asyncio
from collections import Counter
from typing import Any

from websockets.exceptions import InvalidStatus

from pushcluster_gateway import closes
from tests.support.gateways import Backend, RunningGateway, running_gateway, token
from tests.support.stomp_client import StompClient, StompError
from tests.support.waiting import eventually


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
            await eventually(gateway.is_ready, within_s=10)
        answers = await asyncio.gather(*(try_to_connect((first, second)[n % 2], "alice") for n in range(40)))
        clients = [answer for answer in answers if isinstance(answer, StompClient)]
        refusals = [answer for answer in answers if isinstance(answer, StompError)]
        assert (len(clients), len(refusals)) == (5, 35)
        assert set(await back.sessions("alice")) == {client.session for client in clients}
        for refusal in refusals:
            assert refusal.frame is not None
            assert refusal.frame["message"] == closes.TOO_MANY_SESSIONS.reason
            assert int(refusal.frame["retry-after-ms"]) > 0
            assert "maxSessionsPerUser" in refusal.frame.text

        bob = await StompClient.connect(first.url, token=token("bob"))
        await clients[0].close()

        async def there_is_room_again() -> bool:
            return len(await back.sessions("alice")) == 4

        await eventually(there_is_room_again, within_s=5)
        again = await StompClient.connect(second.url, token=token("alice"))
        for client in (*clients[1:], again, bob):
            assert not client.closed, "the older ones stay"
            await client.close()


async def test_after_a_storm_the_pod_is_full_and_not_one_over_and_everybody_else_knows_when_to_come_again(
    plane: Any, back: Backend
) -> None:
    async with running_gateway(plane, MAX_CONNECTIONS="30") as gateway:
        await eventually(gateway.is_ready, within_s=10)
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


async def test_handshakes_past_the_rate_are_refused_and_counted(plane: Any, back: Backend) -> None:
    async with running_gateway(plane, HANDSHAKES_PER_SECOND="5") as gateway:
        await eventually(gateway.is_ready, within_s=10)
        started_at = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(try_to_connect(gateway, f"user{n}") for n in range(60)))
        clients = [answer for answer in answers if isinstance(answer, StompClient)]
        took_s = asyncio.get_running_loop().time() - started_at
        assert 5 <= len(clients) <= 5 + 5 * took_s
        assert await gateway.metric('admissions_refused_total{cause="rate"}') == 60 - len(clients)
        for client in clients:
            await client.close()
