"""What is too old is refused in a sentence that says what is needed."""

import pytest

from pushcluster_contract.errors import TooOld, Unavailable
from pushcluster_contract.required_versions import (
    KUBERNETES,
    RABBITMQ,
    REDIS,
    MinimumVersion,
)


@pytest.mark.parametrize(
    ("needed", "version"),
    [
        (REDIS, "7.2.0"),
        (REDIS, "7.4.1"),
        (REDIS, "10.1"),
        (RABBITMQ, "4.3.0-rc.1"),
        (RABBITMQ, "5.0.1"),
        (KUBERNETES, "v1.30.0"),
        (KUBERNETES, "1.34+"),
    ],
)
def test_a_version_that_is_new_enough_is_taken(needed: MinimumVersion, version: str) -> None:
    needed.require(version)


@pytest.mark.parametrize(
    ("needed", "version", "says"),
    [
        (REDIS, "7.0.15", r"^Redis 7\.0\.15 is too old: 7\.2 or newer is needed$"),
        (REDIS, "6.2.14", "too old"),
        (RABBITMQ, "4.2.9", r"^RabbitMQ 4\.2\.9 is too old: 4\.3 or newer is needed$"),
        (RABBITMQ, "3.13.7", "too old"),
        (KUBERNETES, "1.29+", r"^Kubernetes 1\.29\+ is too old: 1\.30 or newer is needed$"),
        (KUBERNETES, "1.9", "too old"),
        (RABBITMQ, "", "RabbitMQ reports version ''"),
        (REDIS, "unknown" * 99, r"'unknown.{43}'"),
    ],
)
def test_any_other_version_is_refused_with_the_one_that_is_needed(
    needed: MinimumVersion, version: str, says: str
) -> None:
    with pytest.raises(TooOld, match=says):
        needed.require(version)


@pytest.mark.parametrize("version", ["8.0", "8.1.9", "9.0"])
def test_a_newer_major_version_needs_no_minor_one(version: str) -> None:
    MinimumVersion("It", 7, 2).require(version)


def test_when_to_try_again_is_known_or_not() -> None:
    assert (str(Unavailable()), Unavailable().retry_after_ms) == ("", None)
    assert (str(Unavailable("full", retry_after_ms=5)), Unavailable(retry_after_ms=5).retry_after_ms) == ("full", 5)


def test_a_version_that_is_too_old_counts_as_unavailable() -> None:
    assert issubclass(TooOld, Unavailable)
