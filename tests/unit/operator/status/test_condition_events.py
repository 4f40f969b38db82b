"""Events say what a status had not said before."""

from dataclasses import replace

import pytest

from pushcluster_operator.status.condition_events import plan_condition_events
from pushcluster_operator.status.conditions import ObservedState, build_conditions, render
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.workloads import Workload

DONE = Workload(2, 2, 2, rolled_out=True, troubles=())
WELL = ObservedState(DONE, DONE, DONE, DONE)
STARTING = replace(WELL, gateway=replace(DONE, ready=1))
NO_SECRET = replace(STARTING, key_troubles=(Trouble("SecretMissing", "Secret mine does not exist; create it"),))
NO_IMAGE = replace(DONE, ready=0, troubles=(Trouble("ImagePullFailed", "image x cannot be pulled"),))
NEITHER = replace(NO_SECRET, dispatcher=NO_IMAGE)


def told(former: ObservedState | None, now: ObservedState) -> list[str]:
    status = {} if former is None else {"conditions": render(build_conditions(former), [], 1, "then")}
    return [
        f"{news.reason}{'!' if news.warning else ''}" for news in plan_condition_events(status, build_conditions(now))
    ]


@pytest.mark.parametrize(
    ("former", "now", "expected"),
    [
        (None, STARTING, ["Created"]),
        (None, NO_SECRET, ["Created", "SecretMissing!"]),
        (STARTING, WELL, ["Ready"]),
        (WELL, STARTING, ["GatewaysNotReady"]),
        (STARTING, STARTING, []),
        (WELL, WELL, []),
        (WELL, NO_SECRET, ["SecretMissing!"]),
        (NO_SECRET, NEITHER, ["ImagePullFailed!"]),
        (NEITHER, NEITHER, []),
        (NEITHER, replace(WELL, dispatcher=NO_IMAGE), []),
        (replace(WELL, dispatcher=NO_IMAGE), NO_SECRET, ["SecretMissing!"]),
        (NEITHER, WELL, ["Ready"]),
        (replace(NO_SECRET, paused=True), NO_SECRET, []),
        (NO_SECRET, replace(NO_SECRET, dispatcher=replace(DONE, ready=1)), []),
        (replace(NO_SECRET, gateway=DONE), NO_SECRET, []),
        (NO_SECRET, replace(NO_SECRET, dispatcher=replace(DONE, rolled_out=False)), []),
    ],
)
def test_each_change_of_the_conditions_becomes_one_event(
    former: ObservedState | None, now: ObservedState, expected: list[str]
) -> None:
    assert told(former, now) == expected


def test_an_unready_cluster_says_which_part_and_why() -> None:
    status = {"conditions": render(build_conditions(WELL), [], 1, "then")}
    (news,) = plan_condition_events(status, build_conditions(STARTING))
    assert news.message == "gateways: 1 of 2 ready; the others are starting"


@pytest.mark.parametrize(
    ("former", "now", "type_"),
    [(STARTING, WELL, "Ready"), (WELL, NO_SECRET, "Degraded"), (NO_SECRET, NEITHER, "DispatchersReady")],
)
def test_an_event_says_what_its_condition_says(former: ObservedState, now: ObservedState, type_: str) -> None:
    conditions = {each.type: each for each in build_conditions(now)}
    status = {"conditions": render(build_conditions(former), [], 1, "then")}
    (news,) = plan_condition_events(status, build_conditions(now))
    assert news.message == conditions[type_].message
