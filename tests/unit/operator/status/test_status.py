"""Conditions say what is, and the status is written only when it is news."""

from dataclasses import replace
from typing import Any

import pytest

from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.kube.manifest import Manifest, ObjectKey
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from pushcluster_operator.status.conditions import (
    Condition,
    ObservedState,
    build_conditions,
    build_refusal,
    render,
)
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.status import SessionCounts, build_status, is_worth_writing
from pushcluster_operator.status.workloads import Workload
from tests.unit.operator.objects import body

DONE = Workload(1, 1, 1, rolled_out=True, troubles=())
STARTING = Workload(2, 2, 1, rolled_out=False, troubles=())
BROKEN = replace(STARTING, troubles=(Trouble("OOMKilled", "pod p used too much"),))
WELL = ObservedState(DONE, DONE, DONE, DONE)
IDENTITY = ClusterIdentity.from_body(body())


def conditions(observed: ObservedState) -> dict[str, Condition]:
    return {condition.type: condition for condition in build_conditions(observed)}


def said(observed: ObservedState) -> tuple[str, str, str]:
    found = conditions(observed)
    return tuple(f"{found[type_].status}/{found[type_].reason}" for type_ in ("Ready", "Progressing", "Degraded"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (WELL, ("True/AsAsked", "False/AtRest", "False/NothingWrong")),
        (replace(WELL, gateway=STARTING), ("False/GatewaysNotReady", "True/Changing", "False/NothingWrong")),
        (replace(WELL, redis=BROKEN), ("False/OOMKilled", "False/Blocked", "True/OOMKilled")),
        (replace(WELL, paused=True), ("True/AsAsked", "False/Paused", "False/NothingWrong")),
        (
            replace(WELL, conflicts=(ObjectKey("Service", "demo-redis"),)),
            ("False/NameTaken", "False/AtRest", "True/NameTaken"),
        ),
        (
            replace(WELL, sweep_troubles=(Trouble("SweepFailing", "x"),)),
            ("False/SweepFailing", "False/AtRest", "True/SweepFailing"),
        ),
    ],
)
def test_ready_progressing_and_degraded_say_what_is_observed(
    observed: ObservedState, expected: tuple[str, str, str]
) -> None:
    assert said(observed) == expected


def test_the_cause_comes_before_what_follows_from_it() -> None:
    observed = replace(WELL, rabbitmq=BROKEN, sweep_troubles=(Trouble("SweepFailing", "x"),))
    assert conditions(observed)["Ready"].reason == "OOMKilled"
    assert conditions(observed)["Degraded"].message == "pod p used too much; x"


def test_parts_that_need_a_broken_store_wait_for_it_and_progressing_is_false() -> None:
    found = conditions(replace(WELL, redis=DONE.with_trouble(Trouble("RedisTooOld", "x")), gateway=STARTING))
    assert (found["GatewaysReady"].reason, found["DispatchersReady"].reason) == ("Waiting", "AllReady")
    assert found["GatewaysReady"].message == "gateways: 1 of 2 ready; waiting for Redis"
    assert found["Progressing"].reason == "Blocked"


def test_gateways_without_token_keys_wait_for_the_keys_and_do_not_count_as_starting() -> None:
    missing = (Trouble("SecretMissing", "Secret mine does not exist; create it"),)
    found = conditions(replace(WELL, gateway=STARTING, key_troubles=missing))
    assert found["GatewaysReady"].message == "gateways: 1 of 2 ready; waiting for keys to check tokens with"
    assert found["Progressing"].reason == "Blocked"
    assert found["Degraded"].message == missing[0].message
    assert conditions(replace(WELL, key_troubles=missing))["GatewaysReady"].status == "True", "the last keys count"


def test_a_cluster_that_asks_for_no_gateways_is_ready() -> None:
    none = Workload(0, 0, 0, rolled_out=True, troubles=())
    assert conditions(replace(WELL, gateway=none))["GatewaysReady"].reason == "ScaledToZero"
    assert "no client can connect" in conditions(replace(WELL, gateway=none))["Ready"].message
    assert "wait in the ingress" in conditions(replace(WELL, dispatcher=none))["Ready"].message
    assert "reach the users" in conditions(WELL)["Ready"].message
    assert conditions(replace(WELL, gateway=none))["Ready"].status == "True"


def test_every_condition_has_a_camel_case_reason_and_a_message() -> None:
    observed = replace(WELL, gateway=BROKEN, redis=STARTING, durability_reduced=True)
    for condition in (
        *build_conditions(observed),
        *build_conditions(WELL),
        *build_refusal(InvalidSpec("spec.x is wrong")),
    ):
        assert condition.reason[0].isupper()
        assert condition.reason.isalnum()
        assert len(condition.message.split()) >= 3


def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    first = render([Condition("Ready", "False", "A", "a")], [], 1, "then")
    same = render([Condition("Ready", "False", "B", "b")], first, 2, "now")
    assert (same[0]["lastTransitionTime"], same[0]["reason"], same[0]["observedGeneration"]) == ("then", "B", 2)
    other = render([Condition("Ready", "True", "C", "c")], same, 2, "now")
    assert other[0]["lastTransitionTime"] == "now"


def status(
    observed: ObservedState = WELL, counts: SessionCounts | None = None, former: Manifest | None = None
) -> Manifest:
    return build_status(IDENTITY, build_conditions(observed), observed, counts or SessionCounts(), former or {}, "now")


def test_an_unchanged_status_is_not_written() -> None:
    former = status()
    assert not is_worth_writing(status(former=former), former, 1e9)


@pytest.mark.parametrize("observed", [replace(WELL, gateway=STARTING), replace(WELL, paused=True)])
def test_a_changed_condition_is_written_at_once(observed: ObservedState) -> None:
    former = status()
    assert is_worth_writing(status(observed, former=former), former, 0.0)


@pytest.mark.parametrize(
    ("counts", "since_s", "worth"),
    [
        ({"online": 5}, 29.9, False),
        ({"online": 5}, 30.0, True),
        ({"removed_total": 1}, 30.0, True),
        ({"last_sweep_time": "later"}, 299.9, False),
        ({"last_sweep_time": "later"}, 300.0, True),
    ],
)
def test_counters_are_written_every_now_and_then(counts: dict[str, Any], since_s: float, *, worth: bool) -> None:
    former = status(counts=SessionCounts(online=4, last_sweep_time="before"))
    changed = replace(SessionCounts(online=4, last_sweep_time="before"), **counts)
    assert is_worth_writing(status(counts=changed, former=former), former, since_s) is worth


def test_an_invalid_spec_says_nothing_new_of_pods() -> None:
    invalid = build_status(IDENTITY, build_refusal(InvalidSpec("x")), None, SessionCounts(), {}, "now")
    assert not {"gateway", "dispatcher"} & invalid.keys()
    assert {each["observedGeneration"] for each in invalid["conditions"]} == {3}
