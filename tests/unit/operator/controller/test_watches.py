"""kopf only watches: it wakes the right work and never writes."""

from typing import Any

import kopf
import pytest

from pushcluster_operator.controller.canary import NAME as CANARY
from pushcluster_operator.controller.canary import Canary
from pushcluster_operator.controller.watches import CHILDREN, build_registry, build_settings
from tests.unit.operator.fake_kube import FakeKube

LABELS = {"pushcluster.dev/cluster": "demo"}


class Woken:
    def __init__(self) -> None:
        self.reconciles: list[tuple[str, str]] = []
        self.sweeps: list[tuple[str, str]] = []
        self.canary = Canary(FakeKube(), "system")
        self.registry = build_registry(reconcile=self.reconcile, sweep=self.sweep, canary=self.canary)

    async def reconcile(self, key: tuple[str, str]) -> None:
        self.reconciles.append(key)

    async def sweep(self, key: tuple[str, str]) -> None:
        self.sweeps.append(key)

    async def event(
        self, plural: str, name: str, labels: dict[str, str], namespace: str = "team", owners: list[Any] | None = None
    ) -> None:
        handlers: Any = self.registry._watching.get_all_handlers()
        (handler,) = [each for each in handlers if plural in {each.selector.any_name, each.selector.plural}]
        meta = {"labels": labels, "ownerReferences": owners or []}
        await handler.fn(namespace=namespace, name=name, labels=labels, meta=meta, event={}, body={})


@pytest.fixture
def woken() -> Woken:
    return Woken()


def test_there_is_no_handler_for_which_kopf_would_write_annotations_or_finalizers(woken: Woken) -> None:
    registry = woken.registry
    assert len(registry._watching.get_all_handlers()) == len(CHILDREN) + 1
    for others in (registry._changing, registry._spawning, registry._webhooks, registry._indexing):
        assert not list(others.get_all_handlers())


def test_only_labelled_children_are_sent_and_nothing_is_posted() -> None:
    settings = build_settings()
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert set(settings.watching.label_selectors.values()) == {"pushcluster.dev/cluster"}
    assert len(settings.watching.label_selectors) == len(CHILDREN)


def test_a_pushcluster_is_watched_without_a_selector() -> None:
    resource = kopf.Resource(
        group="pushcluster.dev", version="v1alpha1", plural="pushclusters", kind="PushCluster", namespaced=True
    )
    assert not list(build_settings().watching.label_selectors.collect(resource))
    pods = kopf.Resource(group="", version="v1", plural="pods", kind="Pod", namespaced=True)
    assert list(build_settings().watching.label_selectors.collect(pods)) == ["pushcluster.dev/cluster"]


async def test_an_event_of_a_pushcluster_wakes_reconcile_and_sweep(woken: Woken) -> None:
    await woken.event("pushclusters", "demo", {})
    assert woken.reconciles == woken.sweeps == [("team", "demo")]


@pytest.mark.parametrize("plural", [plural for _, plural in CHILDREN])
async def test_an_event_of_a_child_wakes_the_reconcile_of_its_pushcluster(woken: Woken, plural: str) -> None:
    await woken.event(plural, "demo-x", LABELS)
    assert woken.reconciles == [("team", "demo")]
    assert woken.sweeps == []


async def test_a_child_whose_label_was_edited_still_wakes_its_owner(woken: Woken) -> None:
    owners = [{"kind": "PushCluster", "name": "demo"}]
    await woken.event("deployments", "demo-x", {"pushcluster.dev/cluster": "edited"}, owners=owners)
    assert woken.reconciles == [("team", "demo")]


async def test_an_event_of_a_gateway_pod_wakes_the_sweep_too(woken: Woken) -> None:
    await woken.event("pods", "demo-gateway-x", {**LABELS, "pushcluster.dev/component": "gateway"})
    assert woken.sweeps == [("team", "demo")]


async def test_an_event_of_the_canary_is_received_and_wakes_no_reconcile(woken: Woken) -> None:
    await woken.canary.beat()
    await woken.event("configmaps", CANARY, {"pushcluster.dev/cluster": ""}, "system")
    assert woken.reconciles == []
    assert woken.canary.watches_work()
