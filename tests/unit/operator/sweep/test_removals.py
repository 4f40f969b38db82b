"""Which gateway processes are removed, and which never."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.ids import Incarnation
from pushcluster_operator.status.sweep_report import CUT_OFF_S
from pushcluster_operator.sweep.removals import (
    NOT_READY_S,
    ExpiredLease,
    GatewayLease,
    GatewayPod,
    Removal,
    RemovalCause,
    plan_removals,
    track_expired,
    track_not_ready,
)

NOW_MS = 1_000_000
A, B = Incarnation("pod-1", "a" * 16), Incarnation("pod-1", "b" * 16)
LIVE, EXPIRED = NOW_MS + 1, NOW_MS


def pod(*, finished: bool = False, running: bool = True, ready: bool = True, uid: str = "pod-1") -> GatewayPod:
    return GatewayPod(uid, f"name-of-{uid}", finished, running, ready)


def plan(
    leases: list[GatewayLease], pods: list[GatewayPod], not_ready_s: float = 0.0, expired_s: float = 0.0
) -> tuple[Removal, ...]:
    return plan_removals(leases, NOW_MS, pods, {"pod-1": not_ready_s}, {A: expired_s})


@pytest.mark.parametrize("expires_ms", [LIVE, EXPIRED], ids=["live lease", "expired lease"])
def test_a_process_whose_pod_is_gone_is_removed_at_once(expires_ms: int) -> None:
    assert plan([GatewayLease(A, expires_ms)], []) == (Removal(A, RemovalCause.POD_GONE),)


@pytest.mark.parametrize(
    "state",
    [pod(), pod(ready=False), pod(running=False, ready=False), pod(finished=True, running=False, ready=False)],
    ids=["well", "not ready", "container stopped", "finished"],
)
def test_a_live_lease_protects_a_process_whose_pod_exists(state: GatewayPod) -> None:
    assert plan([GatewayLease(A, LIVE)], [state], not_ready_s=NOT_READY_S * 10, expired_s=CUT_OFF_S * 10) == ()


@pytest.mark.parametrize(
    ("state", "not_ready_s", "expired_s", "cause"),
    [
        (pod(finished=True, running=False, ready=False), 0, 0, RemovalCause.POD_FINISHED),
        (pod(running=False, ready=False), 0, 0, RemovalCause.CONTAINER_STOPPED),
        (pod(ready=False), NOT_READY_S, 0, RemovalCause.POD_NOT_READY),
        (pod(ready=False), NOT_READY_S - 0.1, CUT_OFF_S * 10, None),
        (pod(), 0, CUT_OFF_S, RemovalCause.CUT_OFF),
        (pod(), 0, CUT_OFF_S - 0.1, None),
    ],
    ids=["finished", "container stopped", "not ready for long", "not ready for a moment", "cut off", "slow"],
)
def test_an_expired_lease_needs_a_second_sign(
    state: GatewayPod, not_ready_s: float, expired_s: float, cause: RemovalCause | None
) -> None:
    expected = () if cause is None else (Removal(A, cause),)
    assert plan([GatewayLease(A, EXPIRED)], [state], not_ready_s, expired_s) == expected


def test_a_gateway_is_cut_off_by_the_time_of_its_own_lease() -> None:
    leases = [GatewayLease(A, EXPIRED), GatewayLease(B, EXPIRED)]
    assert plan(leases, [pod()], expired_s=CUT_OFF_S) == (Removal(A, RemovalCause.CUT_OFF),)


def test_the_former_process_of_a_restarted_container_is_removed_when_its_lease_has_expired() -> None:
    assert plan([GatewayLease(A, EXPIRED), GatewayLease(B, LIVE)], [pod()]) == (Removal(A, RemovalCause.SUPERSEDED),)


def test_two_processes_of_one_pod_that_both_hold_leases_are_left_alone() -> None:
    assert plan([GatewayLease(A, LIVE), GatewayLease(B, LIVE)], [pod()]) == ()


def test_two_processes_of_one_pod_whose_leases_have_both_expired_do_not_condemn_each_other() -> None:
    assert plan([GatewayLease(A, EXPIRED), GatewayLease(B, EXPIRED)], [pod()]) == ()


def test_a_sibling_in_another_pod_proves_nothing() -> None:
    other = GatewayLease(Incarnation("pod-2", "c" * 16), LIVE)
    assert plan([GatewayLease(A, EXPIRED), other], [pod(), pod(uid="pod-2")]) == ()


@given(
    st.lists(
        st.builds(
            GatewayLease, st.builds(Incarnation, st.sampled_from("12"), st.sampled_from("ab")), st.integers(0, 20)
        )
    ),
    st.lists(st.builds(GatewayPod, st.sampled_from("12"), st.just("n"), st.booleans(), st.booleans(), st.booleans())),
    st.dictionaries(st.sampled_from("12"), st.floats(0, 1e6)),
    st.dictionaries(st.builds(Incarnation, st.sampled_from("12"), st.sampled_from("ab")), st.floats(0, 1e6)),
)
def test_whatever_else_is_seen_a_live_lease_in_an_existing_pod_is_never_removed(
    leases: list[GatewayLease],
    pods: list[GatewayPod],
    not_ready_s: dict[str, float],
    expired_s: dict[Incarnation, float],
) -> None:
    removed = {removal.incarnation for removal in plan_removals(leases, 10, pods, not_ready_s, expired_s)}
    safe = {lease.incarnation for lease in leases if lease.is_live(10)}
    assert not {each for each in removed & safe if each.pod_uid in {pod.uid for pod in pods}}


def test_a_pod_is_read_as_list_gives_it() -> None:
    manifest: dict[str, Any] = {
        "metadata": {"uid": "u", "name": "n"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "gateway", "state": {"running": {}}}],
        },
    }
    assert GatewayPod.from_manifest(manifest) == GatewayPod("u", "n", finished=False, running=True, ready=True)
    assert GatewayPod.from_manifest({"metadata": {"uid": "u", "name": "n"}}) == GatewayPod(
        "u", "n", finished=False, running=False, ready=False
    )
    manifest["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert GatewayPod.from_manifest(manifest) == GatewayPod(
        "u", "n", finished=False, running=True, ready=True, terminating=True
    )


@pytest.mark.parametrize(
    ("phase", "finished"),
    [("Succeeded", True), ("Failed", True), ("Running", False), ("Pending", False), ("Unknown", False)],
)
def test_a_pod_has_finished_in_its_last_phases_alone(phase: str, *, finished: bool) -> None:
    manifest = {"metadata": {"uid": "u", "name": "n"}, "status": {"phase": phase}}
    assert GatewayPod.from_manifest(manifest).finished is finished


@pytest.mark.parametrize(
    ("kind", "status", "ready"), [("Ready", "True", True), ("Ready", "False", False), ("Initialized", "True", False)]
)
def test_a_pod_is_ready_by_its_own_condition_alone(kind: str, status: str, *, ready: bool) -> None:
    manifest = {"metadata": {"uid": "u", "name": "n"}, "status": {"conditions": [{"type": kind, "status": status}]}}
    assert GatewayPod.from_manifest(manifest).ready is ready


def test_causes_are_labels_of_a_metric_and_sentences_of_an_event() -> None:
    """Dashboards and alerts know the labels."""
    assert [cause.value for cause in RemovalCause] == [
        "pod_gone",
        "pod_finished",
        "container_stopped",
        "pod_not_ready",
        "superseded",
        "cut_off",
    ]
    facts = (
        "gone",
        "finished",
        "not running",
        "not been ready for 60 s",
        "new process",
        "lease for 60 s, although Redis",
    )
    for cause, fact in zip(RemovalCause, facts, strict=True):
        assert fact in cause.in_words()


def test_leases_are_judged_one_by_one_and_in_their_order() -> None:
    gone, other = Incarnation("pod-9", "c" * 16), Incarnation("pod-2", "d" * 16)
    leases = [GatewayLease(A, LIVE), GatewayLease(gone, LIVE), GatewayLease(other, EXPIRED)]
    pods = [pod(), pod(uid="pod-2", running=False, ready=False)]
    assert plan(leases, pods) == (
        Removal(gone, RemovalCause.POD_GONE),
        Removal(other, RemovalCause.CONTAINER_STOPPED),
    )


def test_the_strongest_sign_of_death_names_the_cause() -> None:
    both = [GatewayLease(A, EXPIRED), GatewayLease(B, LIVE)]
    states = (
        (pod(finished=True, running=False, ready=False), RemovalCause.POD_FINISHED),
        (pod(running=False, ready=False), RemovalCause.CONTAINER_STOPPED),
        (pod(ready=False), RemovalCause.SUPERSEDED),
    )
    for state, cause in states:
        assert plan(both, [state], not_ready_s=NOT_READY_S, expired_s=CUT_OFF_S) == (Removal(A, cause),)
    assert plan(both, [pod()], expired_s=CUT_OFF_S) == (Removal(A, RemovalCause.SUPERSEDED),)


def test_a_sidecar_that_runs_does_not_make_the_gateway_run() -> None:
    manifest = {
        "metadata": {"uid": "u", "name": "n"},
        "status": {
            "containerStatuses": [
                {"name": "mesh", "state": {"running": {}}},
                {"name": "gateway", "state": {"terminated": {}}},
            ]
        },
    }
    assert not GatewayPod.from_manifest(manifest).running


def test_the_time_of_not_being_ready_starts_when_the_operator_first_sees_it() -> None:
    first = track_not_ready({}, [pod(ready=False), pod(uid="pod-2")], 10.0)
    assert first == {"pod-1": 10.0}
    assert track_not_ready(first, [pod(ready=False)], 50.0) == {"pod-1": 10.0}
    assert track_not_ready(first, [pod()], 50.0) == {}


def test_the_time_of_an_expired_lease_starts_when_the_operator_first_sees_it_so() -> None:
    first = track_expired({}, [GatewayLease(A, 700), GatewayLease(B, 701)], 700, 10.0)
    assert first == {A: ExpiredLease(700, 10.0)}, "one that is live has no such time"
    assert track_expired(first, [GatewayLease(A, 700)], 900, 50.0) == {A: ExpiredLease(700, 10.0)}


@pytest.mark.parametrize(
    ("expires_ms", "since_s"),
    [(699, 10.0), (700, 10.0), (701, 50.0)],
    ids=["another gateway moved it back", "the same", "renewed"],
)
def test_a_lease_that_was_renewed_between_two_sweeps_has_a_new_time(expires_ms: int, since_s: float) -> None:
    first = track_expired({}, [GatewayLease(A, 700)], 800, 10.0)
    assert track_expired(first, [GatewayLease(A, expires_ms)], 900, 50.0) == {A: ExpiredLease(expires_ms, since_s)}


def test_a_lease_that_is_live_or_gone_for_one_sweep_has_a_new_time() -> None:
    first = track_expired({}, [GatewayLease(A, 700)], 800, 10.0)
    for leases in ([GatewayLease(A, 901)], []):
        between = track_expired(first, leases, 900, 20.0)
        assert between == {}
        assert track_expired(between, [GatewayLease(A, 700)], 900, 30.0) == {A: ExpiredLease(700, 30.0)}
