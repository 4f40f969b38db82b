"""How fast one session may subscribe and unsubscribe: it waits for its token, and nothing is refused."""

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.limits import MAX_SUBSCRIPTIONS_PER_SESSION
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.request_rate import RequestRate
from tests.support.fake_services import RunningServer, running_server
from tests.support.gateways import token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

LIMITS = Limits(subscribe_burst=4, subscribes_per_s=1.0, client_heart_beat_ms=2_000)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(LIMITS, manual_clock=True) as running:
        yield running


def test_a_burst_is_free_and_one_more_waits_for_its_token() -> None:
    rate = RequestRate()
    assert [rate.take(100.0, burst=3, per_s=2.0) for _ in range(4)] == [99.5, 100.0, 100.5, 101.0]
    assert rate.take(102.0, burst=3, per_s=2.0) <= 102.0


def test_the_bucket_is_full_at_first_whatever_the_clock_says() -> None:
    assert [RequestRate().take(now, burst=3, per_s=2.0) - now for now in (0.0, 0.25, 1_000.0)] == [-0.5] * 3


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_no_time_has_more_than_a_burst_and_what_was_refilled_in_it(pauses: list[float]) -> None:
    rate, now = RequestRate(), 50.0
    taken = []
    for pause in pauses:
        now += pause
        taken.append(now)
        now = max(now, rate.take(now, burst=3, per_s=2.0))
    for first, begin in enumerate(taken):
        for count, end in enumerate(taken[first:], start=1):
            assert count <= 3 + (end - begin) * 2.0 + 1e-6


def test_a_client_that_subscribes_to_all_it_may_and_then_to_all_others_waits_for_nothing() -> None:
    assert Limits().subscribe_burst >= 3 * MAX_SUBSCRIPTIONS_PER_SESSION


def taken(server: RunningServer, count: int) -> Callable[[], bool]:
    """Return whether the gateway has taken so many SUBSCRIBE and UNSUBSCRIBE frames."""
    return lambda: server.services.clients[0]._subscriptions_made == count


async def subscribe(client: StompClient, count: int) -> None:
    for n in range(count):
        await client.send("SUBSCRIBE", {"id": str(n), "destination": "/user/queue/demo", "receipt": f"s{n}"})


async def test_one_subscribe_too_many_waits_for_its_token_and_nothing_is_refused(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 0)) as client:
        await subscribe(client, LIMITS.subscribe_burst + 2)
        await eventually(taken(server, LIMITS.subscribe_burst), within_s=2)
        await server.pass_time(0.5)
        assert taken(server, LIMITS.subscribe_burst)()
        await server.pass_time(1.0)
        assert taken(server, LIMITS.subscribe_burst + 1)()
        await server.pass_time(1.0)
        for n in range(LIMITS.subscribe_burst + 2):
            await client.wait_receipt(f"s{n}")


async def test_unsubscribe_takes_a_token_too(server: RunningServer) -> None:
    async with connected(server.url, token=token("alice"), heart_beat=(0, 0)) as client:
        for n in range(LIMITS.subscribe_burst // 2):
            await client.subscribe("/user/queue/demo", id=str(n))
            await client.unsubscribe(str(n))
        await subscribe(client, 1)
        await server.pass_time(0.5)
        assert taken(server, LIMITS.subscribe_burst // 2)()
        await server.pass_time(1.0)
        await client.wait_receipt("s0")


@pytest.mark.parametrize("heart_beat", [(0, 0), (1_000, 0)], ids=["pings", "heart-beats"])
async def test_a_client_that_is_slowed_down_is_not_taken_for_a_silent_one(
    server: RunningServer, heart_beat: tuple[int, int]
) -> None:
    """Its pongs and heart-beats wait behind what the gateway does not read."""
    count = LIMITS.subscribe_burst + int(3 * LIMITS.ping_interval_s * LIMITS.subscribes_per_s)
    pairs = b"".join(
        b"SUBSCRIBE\nid:%d\ndestination:/user/queue/demo\n\n\0UNSUBSCRIBE\nid:%d\n\n\0" % (n, n) for n in range(count)
    )
    async with connected(server.url, token=token("alice"), heart_beat=heart_beat) as client:
        await client.send_raw(pairs)
        await server.pass_time_until(taken(server, count), within_s=4 * count)
        await server.pass_time(3.0)
        await client.disconnect()
