"""The HTTP API in front of a real ingress; its answers to wrong requests are in the unit tests."""

import asyncio
from typing import Final

from tests.support.containers import Services, close_amqp_connections, down
from tests.support.dispatchers import API_KEY, DEMO, Logs, RunningDispatcher, running_dispatcher
from tests.support.planes import Plane
from tests.support.waiting import WITHIN_S, eventually

AUTHORIZED: Final = {"Authorization": f"Bearer {API_KEY}"}


async def post(
    dispatcher: RunningDispatcher, body: bytes | str = b"hi", user: str = "alice", **headers: str
) -> tuple[int, str]:
    url = f"{dispatcher.api_url}/v1/users/{user}/messages?destination={DEMO}"
    async with dispatcher.session.post(url, data=body, headers={**AUTHORIZED, **headers}) as response:
        return response.status, await response.text()


async def wait_answer(dispatcher: RunningDispatcher, status: int) -> str:
    """Post until the answer is this one; return it."""

    async def answers() -> str:
        got, text = await post(dispatcher, "try")
        assert got == status, text
        return text

    return await eventually(answers)


async def test_a_posted_message_is_in_the_users_log(dispatcher: RunningDispatcher, logs: Logs) -> None:
    await wait_answer(dispatcher, 202)
    status, _ = await post(dispatcher, b"\x00\xff", "b%C3%B8b", **{"X-Push-Kind": "news", "Content-Type": "a/b"})
    assert status == 202
    await eventually(lambda: logs.length("bøb"))
    (entry,) = await logs.entries("bøb")
    assert (entry.body, entry.content_type, entry.headers) == (b"\x00\xff", "a/b", {"x-kind": "news"})


async def test_a_repeated_request_with_the_same_key_is_one_message(dispatcher: RunningDispatcher, logs: Logs) -> None:
    await wait_answer(dispatcher, 202)
    for body in ("one", "one", "one"):
        assert (await post(dispatcher, body, "bob", **{"Idempotency-Key": "k1"}))[0] == 202
    await post(dispatcher, "two", "bob")

    async def both() -> bool:
        return await logs.bodies("bob") == ["one", "two"]

    await eventually(both)


async def test_an_accepted_message_survives_all_that_follows(plane: Plane, logs: Logs, services: Services) -> None:
    """202 means the broker's confirm: here Redis is away, and the dispatcher dies before anything is appended."""
    async with running_dispatcher(plane) as dispatcher:
        await wait_answer(dispatcher, 202)
        async with down(services.redis):
            assert (await post(dispatcher, "kept", "bob"))[0] == 202
            await dispatcher.kill()
    async with running_dispatcher(plane):
        await eventually(lambda: logs.length("bob"))
        assert await logs.bodies("bob") == ["kept"]


async def test_a_dispatcher_that_stops_takes_messages_until_load_balancers_have_seen_it(
    plane: Plane, logs: Logs
) -> None:
    async with running_dispatcher(plane) as dispatcher:
        await wait_answer(dispatcher, 202)
        dispatcher.process.terminate()

        async def is_stopping() -> bool:
            return await dispatcher.ready() == (False, "stopping")

        await eventually(is_stopping)
        assert (await post(dispatcher, "late", "bob"))[0] == 202
        assert await asyncio.wait_for(dispatcher.process.wait(), WITHIN_S) == 0
    async with running_dispatcher(plane):
        await eventually(lambda: logs.length("bob"))


async def test_a_full_ingress_is_answered_503_and_not_with_a_promise(
    plane: Plane, dispatcher: RunningDispatcher, services: Services
) -> None:
    await wait_answer(dispatcher, 202)
    policy = ("rabbitmqctl", "set_policy", "--vhost", plane.vhost, "small", "^pushcluster.ingress", '{"max-length":1}')
    await asyncio.to_thread(services.rabbitmq.exec, *policy)
    async with down(services.redis):  # so that nobody takes anything out
        assert "full" in await wait_answer(dispatcher, 503)
    await wait_answer(dispatcher, 202)


async def test_without_a_broker_it_is_answered_503_and_later_202_again(
    plane: Plane, dispatcher: RunningDispatcher, services: Services
) -> None:
    await wait_answer(dispatcher, 202)
    async with down(services.rabbitmq):
        assert "RabbitMQ" in await wait_answer(dispatcher, 503)
    await wait_answer(dispatcher, 202)


async def test_a_cut_connection_answers_everybody_who_waits(
    plane: Plane, dispatcher: RunningDispatcher, services: Services
) -> None:
    await wait_answer(dispatcher, 202)
    posting = [asyncio.create_task(post(dispatcher, str(n))) for n in range(200)]
    await close_amqp_connections(services, plane.vhost)
    statuses = {status for status, _ in await asyncio.gather(*posting)}
    assert statuses <= {202, 503}
    await wait_answer(dispatcher, 202)
