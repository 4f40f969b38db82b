"""Ids for why requests fail: many failures for one reason share one."""

from itertools import count

import pytest

from pushcluster_gateway.session.fault_references import MAX_REASONS, SHARED_S, FaultReferences, Reference

AWAY = "Redis: Error 111 connecting to demo-redis.shop.svc:6379"


@pytest.fixture
def references() -> FaultReferences:
    numbers = count(1)
    return FaultReferences(lambda size: next(numbers).to_bytes(size, "big"))


def test_all_failures_for_one_reason_share_an_id_for_a_while(references: FaultReferences) -> None:
    assert references.refer(AWAY, 100.0) == Reference("00000001", is_new=True)
    assert references.refer(AWAY, 100.0 + SHARED_S - 0.1) == Reference("00000001", is_new=False)
    assert references.refer(AWAY, 100.0 + SHARED_S) == Reference("00000002", is_new=True)
    assert references.refer(AWAY, 100.0 + SHARED_S + 1) == Reference("00000002", is_new=False)


def test_each_reason_has_an_id_of_its_own(references: FaultReferences) -> None:
    assert references.refer(AWAY, 100.0).id != references.refer("RabbitMQ: not connected", 100.0).id


def test_one_reason_more_than_the_bound_forgets_the_oldest(references: FaultReferences) -> None:
    for number in range(MAX_REASONS):
        assert references.refer(f"reason {number}", 100.0).is_new
    assert not references.refer("reason 0", 100.0).is_new
    assert references.refer("one more", 100.0).is_new
    assert references.refer("reason 0", 100.0).is_new
    assert not references.refer("reason 2", 100.0).is_new
