"""Limits that contradict each other are told before anybody comes."""

from typing import Any

import pytest

from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_operator.status.warnings import build_memory_warnings


def warning(**spec: Any) -> str:
    """Return what is told, or nothing."""
    found = build_memory_warnings(PushClusterSpec.from_body({"spec": spec}))
    assert [each.type for each in found] in ([], ["MemoryShort"])
    return "".join(each.message for each in found)


def test_the_default_limits_have_memory_for_all_clients_that_they_admit() -> None:
    assert warning() == ""


def test_a_gateway_with_just_enough_memory_is_no_reason_to_warn_and_with_one_connection_more_it_is() -> None:
    memory = {"limits": {"memory": "288Mi"}}
    assert warning(gateway={"maxConnections": 20_480, "resources": memory}) == ""
    told = warning(gateway={"maxConnections": 20_481, "resources": memory})
    assert "about 289Mi" in told
    assert "limits.memory (288Mi)" in told


@pytest.mark.parametrize(("replicas", "short"), [(13, False), (14, True)])
def test_more_sessions_than_redis_holds_are_told(replicas: int, short: bool) -> None:
    told = warning(gateway={"replicas": replicas})
    assert ("redis.managed.maxMemory (256Mi)" in told) is short


def test_every_limit_that_is_too_low_is_named_in_one_condition() -> None:
    told = warning(gateway={"maxConnections": 200_000, "replicas": 2})
    assert "limits.memory (512Mi)" in told
    assert "Raise maxMemory" in told
