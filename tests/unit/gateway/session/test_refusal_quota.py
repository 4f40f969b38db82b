"""How many copies of refused messages a user may cause."""

import pytest

from pushcluster_gateway.session import refusal_quota
from pushcluster_gateway.session.refusal_quota import MAX_REFUSING_USERS, CopyGrant, RefusalQuota

GRANTED, FIRST_DENIED, DENIED = CopyGrant.GRANTED, CopyGrant.FIRST_DENIED, CopyGrant.DENIED


@pytest.fixture
def quota() -> RefusalQuota:
    return RefusalQuota(burst=3, per_s=0.5)


def take(quota: RefusalQuota, user: str, times: int, now: float = 100.0) -> list[CopyGrant]:
    return [quota.take(user, now) for _ in range(times)]


def test_a_burst_is_granted_and_one_more_is_not(quota: RefusalQuota) -> None:
    assert take(quota, "alice", 4) == [GRANTED, GRANTED, GRANTED, FIRST_DENIED]


def test_a_user_who_has_none_left_takes_none_from_another(quota: RefusalQuota) -> None:
    take(quota, "mallory", 100)
    assert take(quota, "alice", 3) == [GRANTED] * 3


def test_tokens_come_back_at_their_rate(quota: RefusalQuota) -> None:
    take(quota, "alice", 4)
    assert take(quota, "alice", 1, now=101.9) == [DENIED]
    assert take(quota, "alice", 2, now=102.0) == [GRANTED, DENIED]
    assert take(quota, "alice", 4, now=107.0) == [GRANTED, GRANTED, DENIED, DENIED]


def test_only_the_first_denial_is_to_be_said_until_the_bucket_is_full_again(quota: RefusalQuota) -> None:
    assert take(quota, "alice", 6)[3:] == [FIRST_DENIED, DENIED, DENIED]
    assert take(quota, "alice", 4, now=105.0)[2:] == [DENIED, DENIED]
    assert take(quota, "alice", 5, now=111.0)[3:] == [FIRST_DENIED, DENIED]


def test_a_user_whose_bucket_is_full_again_is_forgotten(quota: RefusalQuota) -> None:
    take(quota, "alice", 1, now=100.0)
    take(quota, "bob", 3, now=100.0)
    take(quota, "carol", 1, now=101.9)
    assert len(quota) == 3
    take(quota, "carol", 1, now=102.0)
    assert len(quota) == 2, "bob needs four more seconds"


def test_one_user_more_than_the_bound_makes_the_one_begin_anew_who_refused_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_REFUSING_USERS == 10_000
    monkeypatch.setattr(refusal_quota, "MAX_REFUSING_USERS", 2)
    quota = RefusalQuota(burst=1, per_s=0.001)
    assert [quota.take(user, 0.0) for user in ("alice", "bob")] == [GRANTED, GRANTED]
    assert quota.take("alice", 1.0) is FIRST_DENIED
    assert quota.take("carol", 2.0) is GRANTED
    assert len(quota) == 2
    assert quota.take("alice", 3.0) is DENIED, "she refused later than bob"
    assert quota.take("bob", 4.0) is GRANTED
