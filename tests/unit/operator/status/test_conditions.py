"""Each part's condition in every state that it can be in, and what is written of them."""

from dataclasses import replace
from typing import Any

import pytest

from pushcluster_contract.errors import TooOld
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.kube.manifest import ObjectKey
from pushcluster_operator.spec.pushcluster import ClusterIdentity
from pushcluster_operator.status.conditions import (
    Condition,
    ObservedState,
    build_conditions,
    build_fields_unknown,
    build_part,
    build_refusal,
    render,
)
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.redis_memory import RedisMemory
from pushcluster_operator.status.status import SessionCounts, build_status, is_worth_writing
from pushcluster_operator.status.versions import describe_old_rabbitmq, describe_old_redis
from pushcluster_operator.status.workloads import Workload, observe
from tests.unit.operator.objects import body

DONE = Workload(2, 2, 2, rolled_out=True, troubles=())
STARTING = replace(DONE, ready=1)
ROLLING = replace(DONE, rolled_out=False)
TROUBLE = Trouble("OOMKilled", "pod p used too much")
WELL = ObservedState(DONE, DONE, DONE, DONE)
IDENTITY = ClusterIdentity.from_body(body())


@pytest.mark.parametrize(
    ("workload", "waits_for", "expected", "fact"),
    [
        (DONE, "", "True/AllReady", "2 of 2 ready"),
        (DONE, "Redis", "True/AllReady", "2 of 2 ready"),
        (replace(DONE, ready=3), "", "True/AllReady", "3 of 2 ready"),
        (Workload(0, 0, 0, rolled_out=True, troubles=()), "", "True/ScaledToZero", "no gateways"),
        (STARTING, "", "False/Starting", "1 of 2 ready; the others are starting"),
        (replace(DONE, ready=0), "", "False/Starting", "0 of 2 ready; starting"),
        (STARTING, "Redis", "False/Waiting", "1 of 2 ready; waiting for Redis"),
        (ROLLING, "", "False/RollingOut", "2 of 2 ready; the newest"),
        (ROLLING, "Redis", "False/RollingOut", "2 of 2 ready; the newest"),
        (replace(STARTING, rolled_out=False), "", "False/Starting", "1 of 2 ready"),
        (DONE.with_trouble(TROUBLE), "Redis", "False/OOMKilled", TROUBLE.message),
        (DONE.with_trouble(TROUBLE).with_trouble(Trouble("First", "one")), "", "False/First", "one; pod p used"),
        (DONE.with_trouble(None), "", "True/AllReady", "2 of 2 ready"),
    ],
)
def test_what_a_part_says_of_itself(workload: Workload, waits_for: str, expected: str, fact: str) -> None:
    condition = build_part("GatewaysReady", "gateways", workload, waits_for)
    assert condition.type == "GatewaysReady"
    assert f"{condition.status}/{condition.reason}" == expected
    assert fact in condition.message


@pytest.mark.parametrize("moving", [STARTING, ROLLING], ids=["starting", "rolling out"])
@pytest.mark.parametrize("part", ["rabbitmq", "redis", "gateway", "dispatcher"])
def test_a_part_that_starts_or_rolls_out_is_progress_and_no_trouble(part: str, moving: Workload) -> None:
    observed: dict[str, Any] = {part: moving}
    ready, progressing, degraded, *parts = build_conditions(replace(WELL, **observed))
    unready = next(each for each in parts if each.status == "False")
    assert (ready.status, ready.reason) == ("False", unready.type.replace("Ready", "NotReady"))
    assert (progressing.status, progressing.reason, progressing.message) == ("True", "Changing", unready.message)
    assert (degraded.status, degraded.reason) == ("False", "NothingWrong")


def test_all_that_is_unready_is_told_in_one_message() -> None:
    ready, progressing, *_ = build_conditions(replace(WELL, gateway=STARTING, redis=ROLLING))
    assert ready.reason == "RedisNotReady"
    for condition in (ready, progressing):
        assert condition.message.startswith("Redis: 2 of 2 ready")
        assert "; gateways: 1 of 2 ready" in condition.message


def test_what_is_wrong_is_told_with_its_causes_first_and_each_sentence_once() -> None:
    def broken(name: str) -> Workload:
        return DONE.with_trouble(Trouble(name, f"{name} is wrong"))

    observed = ObservedState(
        rabbitmq=broken("Rabbit"),
        redis=broken("Redis"),
        gateway=broken("Gateway"),
        dispatcher=broken("Gateway"),
        conflicts=(ObjectKey("Service", "demo-redis"),),
        key_troubles=(Trouble("Keys", "Keys is wrong"),),
        troubles=(Trouble("Other", "Other is wrong"),),
        sweep_troubles=(Trouble("Sweep", "Sweep is wrong"),),
    )
    _, _, degraded, *_ = build_conditions(observed)
    assert degraded.reason == "NameTaken"
    conflict, *others = degraded.message.split("; ")[-7:]
    assert "Delete or rename it" in conflict
    assert others == [f"{name} is wrong" for name in ("Keys", "Other", "Rabbit", "Redis", "Gateway", "Sweep")]


@pytest.mark.parametrize(
    ("observed", "gateways", "dispatchers"),
    [
        (replace(WELL, rabbitmq=DONE.with_trouble(TROUBLE)), "RabbitMQ", "RabbitMQ"),
        (replace(WELL, redis=DONE.with_trouble(TROUBLE)), "Redis", "Redis"),
        (
            replace(WELL, rabbitmq=DONE.with_trouble(TROUBLE), redis=DONE.with_trouble(TROUBLE)),
            "RabbitMQ and Redis",
            "RabbitMQ and Redis",
        ),
        (replace(WELL, key_troubles=(TROUBLE,)), "keys to check tokens with", None),
    ],
)
def test_programs_wait_for_what_they_need_and_for_nothing_else(
    observed: ObservedState, gateways: str, dispatchers: str | None
) -> None:
    observed = replace(observed, gateway=STARTING, dispatcher=STARTING)
    found = {each.type: each.message for each in build_conditions(observed)}
    assert found["GatewaysReady"].endswith(f"; waiting for {gateways}")
    assert found["DispatchersReady"].endswith(f"; waiting for {dispatchers}") is (dispatchers is not None)


def test_conditions_come_in_one_order_with_warnings_last() -> None:
    warning = Condition("AuthTrusted", "True", "NoProof", "x")
    observed = replace(WELL, warnings=(warning,), durability_reduced=True)
    kinds = ["Ready", "Progressing", "Degraded", "RabbitMQReady", "RedisReady", "GatewaysReady", "DispatchersReady"]
    assert [each.type for each in build_conditions(WELL)] == kinds
    assert [each.type for each in build_conditions(observed)] == [*kinds, "AuthTrusted", "DurabilityReduced"]
    assert {each.status for each in build_conditions(observed)[-2:]} == {"True"}


@pytest.mark.parametrize(("length", "shown"), [(1_500, "x" * 1_500), (1_501, "x" * 1_500 + "…")])
def test_a_message_is_cut_where_the_api_server_would_refuse_it(length: int, shown: str) -> None:
    _, _, degraded, *_ = build_conditions(replace(WELL, troubles=(Trouble("Long", "x" * length),)))
    assert degraded.message == shown


@pytest.mark.parametrize(
    ("error", "reason"),
    [(InvalidSpec("spec.x is wrong"), "InvalidSpec"), (TooOld("Kubernetes 1.20 is old"), "KubernetesTooOld")],
)
def test_what_cannot_be_built_is_not_ready_and_what_runs_stays(error: InvalidSpec | TooOld, reason: str) -> None:
    ready, progressing, degraded = build_refusal(error)
    said = [f"{each.type}/{each.status}/{each.reason}" for each in (ready, progressing, degraded)]
    assert said == [f"Ready/False/{reason}", f"Progressing/False/{reason}", f"Degraded/True/{reason}"]
    assert ready.message == degraded.message
    assert str(error) in ready.message


def test_fields_that_are_unknown_are_named() -> None:
    assert build_fields_unknown(()) == ()
    (condition,) = build_fields_unknown(("spec.new", "spec.newer"))
    assert (condition.type, condition.status, condition.reason) == ("FieldsUnknown", "True", "OperatorTooOld")
    assert "spec.new, spec.newer" in condition.message


def test_a_condition_is_rendered_whole() -> None:
    former: list[dict[str, Any]] = [{"type": "Other", "status": "True", "lastTransitionTime": "then"}]
    assert render([Condition("Ready", "True", "AsAsked", "all is well")], former, 7, "now") == [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 7,
            "lastTransitionTime": "now",
            "reason": "AsAsked",
            "message": "all is well",
        }
    ]


COUNTS = SessionCounts(online=5, removed_total=6, last_removal_time="removed", last_sweep_time="swept")
OBSERVED = replace(
    WELL,
    gateway=Workload(desired=11, replicas=12, ready=13, rolled_out=True, troubles=()),
    dispatcher=Workload(desired=21, replicas=22, ready=23, rolled_out=True, troubles=()),
)


def test_the_status_holds_what_was_observed() -> None:
    status = build_status(IDENTITY, (), OBSERVED, COUNTS, {}, "now")
    assert status == {
        "observedGeneration": 3,
        "conditions": [],
        "sessions": {"online": 5, "removedTotal": 6, "lastRemovalTime": "removed", "lastSweepTime": "swept"},
        "gateway": {
            "replicas": 12,
            "readyReplicas": 13,
            "selector": "pushcluster.dev/cluster=demo,pushcluster.dev/component=gateway",
            "summary": "13/11",
        },
        "dispatcher": {"replicas": 22, "readyReplicas": 23, "summary": "23/21"},
    }


def test_what_no_sweep_has_found_yet_is_left_out_of_the_status() -> None:
    assert build_status(IDENTITY, (), None, SessionCounts(), {}, "now")["sessions"] == {"removedTotal": 0}


def test_a_restarted_operator_goes_on_counting_and_looks_anew_at_what_is_online() -> None:
    status = build_status(IDENTITY, (), OBSERVED, COUNTS, {}, "now")
    assert SessionCounts.from_status(status) == SessionCounts(removed_total=6, last_removal_time="removed")
    assert SessionCounts.from_status({}) == SessionCounts()


@pytest.mark.parametrize("part", ["observedGeneration", "conditions", "gateway", "dispatcher"])
def test_every_part_but_the_counters_is_written_at_once(part: str) -> None:
    former = build_status(IDENTITY, (), OBSERVED, COUNTS, {}, "now")
    assert is_worth_writing({**former, part: "new"}, former, 0.0)
    without = {name: value for name, value in former.items() if name != part}
    assert not is_worth_writing(without, former, 0.0)


@pytest.mark.parametrize("name", ["online", "removedTotal", "lastRemovalTime"])
def test_every_counter_is_written_every_now_and_then(name: str) -> None:
    former = build_status(IDENTITY, (), OBSERVED, COUNTS, {}, "now")
    changed = {**former, "sessions": {**former["sessions"], name: "new"}}
    assert [is_worth_writing(changed, former, since_s) for since_s in (29.9, 30.0)] == [False, True]


@pytest.mark.parametrize(
    ("used", "limit", "was_full", "is_full"),
    [
        (97, 100, False, False),
        (98, 100, False, True),
        (97, 100, True, True),
        (90, 100, True, True),
        (89, 100, True, False),
        (0, 0, True, False),
        (100, 0, False, False),
        (1, 1, False, True),
    ],
)
def test_redis_is_full_near_its_limit_and_until_there_is_room_again(
    used: int, limit: int, *, was_full: bool, is_full: bool
) -> None:
    assert RedisMemory(used, limit).is_full(was_full=was_full) is is_full


def test_a_store_that_is_too_old_says_which_image_to_change() -> None:
    error = TooOld("it answers as 1.0")
    for trouble, reason, field in (
        (describe_old_rabbitmq(error), "RabbitMQTooOld", "spec.rabbitmq.managed.image"),
        (describe_old_redis(error), "RedisTooOld", "spec.redis.managed.image"),
    ):
        assert trouble.reason == reason
        assert "it answers as 1.0" in trouble.message
        assert field in trouble.message


NUMBERS = {"replicas": 4, "updatedReplicas": 4, "readyReplicas": 3, "observedGeneration": 9}
CLAIM = {"metadata": {"name": "data-0"}, "status": {"phase": "Pending"}}


def workload(spec: int = 4, generation: int = 9, **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": generation}, "spec": {"replicas": spec}, "status": NUMBERS | status}


@pytest.mark.parametrize(
    ("found", "rolled_out"),
    [
        (workload(), True),
        (workload(observedGeneration=10), True),
        (workload(observedGeneration=8), False),
        (workload(spec=3), False),
        (workload(replicas=5), False),
        (workload(updatedReplicas=3), False),
        (workload(replicas=5, updatedReplicas=5), True),
    ],
)
def test_a_workload_is_rolled_out_when_its_controller_has_made_what_was_asked(
    found: dict[str, Any], *, rolled_out: bool
) -> None:
    assert observe(4, found, []).rolled_out is rolled_out


def test_a_workload_is_read_from_its_status_and_a_missing_one_is_empty() -> None:
    assert observe(4, workload(replicas=5), []) == Workload(4, 5, 3, rolled_out=False, troubles=())
    assert observe(4, None, []) == Workload(4, 0, 0, rolled_out=False, troubles=())
    bare = {"metadata": {}, "spec": {"replicas": 0}}
    assert observe(0, bare, []) == Workload(0, 0, 0, rolled_out=True, troubles=())


def test_a_claim_without_a_volume_is_a_trouble_only_while_a_pod_is_missing() -> None:
    assert [each.reason for each in observe(4, workload(), [], [CLAIM]).troubles] == ["VolumePending"]
    assert observe(4, workload(readyReplicas=4), [], [CLAIM]).troubles == ()
