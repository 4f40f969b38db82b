"""Who comes back within the second after which cursors are flushed: nothing comes again without saying so."""

from typing import Final

import pytest

from tests.support.gateways import Backend, RunningGateway, token
from tests.support.stomp_client import StompClient, connected

ROUNDS: Final = 5
"""So that no flush that happens to be due can stand for the one that has to be made."""
DESTINATION: Final = "/user/queue/demo"

each_ack = pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])


async def push_and_take(back: Backend, client: StompClient, body: str, ack: str) -> None:
    await back.push("alice", body)
    message = await client.next_message()
    assert message.text == body
    if ack != "auto":
        await client.ack(message, receipt=True)


@each_ack
async def test_who_subscribes_again_gets_nothing_again(gateway: RunningGateway, back: Backend, ack: str) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        await alice.subscribe(DESTINATION, ack=ack)
        for n in range(ROUNDS):
            await push_and_take(back, alice, f"m{n}", ack)
            await alice.unsubscribe(receipt=False)
            await alice.subscribe(DESTINATION, ack=ack)
        await alice.no_message()


@pytest.mark.parametrize("ack", ["client", "client-individual"])
async def test_what_was_not_acknowledged_says_that_it_comes_again(
    gateway: RunningGateway, back: Backend, ack: str
) -> None:
    async with connected(gateway.url, token=token("alice")) as alice:
        for n in range(ROUNDS):
            await alice.subscribe(DESTINATION, ack=ack)
            await back.push("alice", f"m{n}")
            assert (await alice.next_message()).text == f"m{n}"
            await alice.unsubscribe(receipt=False)
            await alice.subscribe(DESTINATION, ack=ack)
            again = await alice.next_message()
            assert (again.text, again.headers.get("redelivered")) == (f"m{n}", "true")
            await alice.ack(again)
            await alice.unsubscribe(receipt=False)


@each_ack
@pytest.mark.parametrize("polite", [True, False])
async def test_who_reconnects_to_the_same_gateway_gets_nothing_again(
    gateway: RunningGateway, back: Backend, ack: str, *, polite: bool
) -> None:
    for n in range(ROUNDS):
        async with connected(gateway.url, token=token("alice")) as alice:
            await alice.subscribe(DESTINATION, ack=ack)
            await push_and_take(back, alice, f"m{n}", ack)
            await (alice.disconnect() if polite else alice.abort_socket())


@each_ack
async def test_another_device_begins_behind_what_the_first_has_got(
    gateway: RunningGateway, back: Backend, ack: str
) -> None:
    async with connected(gateway.url, token=token("alice")) as phone:
        await phone.subscribe(DESTINATION, ack=ack)
        for n in range(ROUNDS):
            await push_and_take(back, phone, f"m{n}", ack)
            async with connected(gateway.url, token=token("alice")) as laptop:
                await laptop.subscribe(DESTINATION, ack=ack)
                await laptop.no_message(for_s=0.1)
