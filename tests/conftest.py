"""Options of the whole test run, and the fixtures that several folders share."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.planes import amqp_admin, back, dispatcher, gateway, logs, plane, producing, redis_url, services

__all__ = ["amqp_admin", "back", "dispatcher", "gateway", "logs", "plane", "producing", "redis_url", "services"]

# On a busy machine a case takes many times its usual time: that is no fault of the code.
settings.register_profile("pushcluster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pushcluster")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pushcluster")
    group.addoption("--fuzz-seconds", type=float, default=60.0, help="How long all fuzz tests together may run.")
    group.addoption(
        "--fuzz-seed", type=int, default=None, help="Run this one case of a fuzz test, as its failure said."
    )
    group.addoption("--schedules", type=int, default=10_000, help="How many schedules the simulation runs.")
    group.addoption("--first-seed", type=int, default=1, help="The seed of the first of them.")
    group.addoption("--seed", type=int, default=None, help="Replay this one schedule alone, and print its trace.")
    group.addoption("--chaos-seed", type=int, default=1, help="What devices and broken connections of chaos runs draw.")
    group.addoption("--rewrite-golden", action="store_true", help="Write the golden files anew instead of comparing.")
    group.addoption("--all-faults", action="store_true", help="Run every fault in every routing mode.")
