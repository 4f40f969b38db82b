"""Who gets a queue at the broker, and who gives one up."""

from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.session.subscription import Subscription
from tests.unit.gateway.fakes import FakeClient, as_subscription


def subscribed(count: int) -> list[Subscription]:
    """Subscriptions of one session."""
    client = FakeClient("alice", "a")
    return [as_subscription(client.subscribe(str(n))) for n in range(count)]


def users(count: int) -> list[Subscription]:
    """Subscriptions of as many sessions."""
    return [each for _ in range(count) for each in subscribed(1)]


def quota(queues: int, gateways: list[int] | None = None, max_per_session: int = 100) -> QueueQuota:
    return QueueQuota(queues, lambda: (gateways or [1])[0], max_per_session=max_per_session)


def test_a_gateway_takes_its_share_and_not_one_more() -> None:
    shared = quota(9, [2])
    assert [shared.acquire(each) for each in users(5)] == [True] * 4 + [False]
    assert len(shared) == 4


def test_a_released_slot_is_for_the_next_subscription() -> None:
    full, (first, second) = quota(1), users(2)
    assert (full.acquire(first), full.acquire(second)) == (True, False)
    full.release(first)
    full.release(first)
    assert full.acquire(second)


def test_a_subscription_with_a_slot_keeps_it_when_queues_are_opened_again() -> None:
    full, (first, second) = quota(1), users(2)
    assert [full.acquire(each) for each in (first, second, first)] == [True, False, True]
    assert len(full) == 1


def test_one_session_takes_as_many_as_one_may_have_and_leaves_the_rest_to_others() -> None:
    shared = quota(100, max_per_session=2)
    assert [shared.acquire(each) for each in subscribed(3)] == [True, True, False]
    assert [shared.acquire(each) for each in subscribed(1)] == [True]


def test_a_share_that_became_smaller_is_exceeded_until_enough_is_released() -> None:
    gateways = [1]
    shared, all_ = quota(4, gateways), users(4)
    assert all(map(shared.acquire, all_))
    overdrawn = [shared.is_exceeded]
    gateways[0] = 2
    for each in all_:
        overdrawn.append(shared.is_exceeded)
        if shared.is_exceeded:
            shared.release(each)
    assert overdrawn == [False, True, True, False, False]
    assert not shared.acquire(all_[0])


def test_a_registry_that_lost_every_lease_counts_as_one_gateway() -> None:
    """Redis was emptied between the renewal and the count."""
    shared = quota(2, [0])
    assert [shared.acquire(each) for each in users(3)] == [True, True, False]


def test_with_a_quota_of_zero_nobody_has_a_queue() -> None:
    assert [quota(0).acquire(each) for each in users(1)] == [False]
