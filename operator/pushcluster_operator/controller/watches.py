"""kopf's part: watches whose events only say which PushCluster to reconcile. kopf itself writes nothing anywhere.

There are only `on.event` handlers. For every other kind kopf would write annotations, and for some a finalizer.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import kopf

from pushcluster_operator.controller.canary import Canary
from pushcluster_operator.kube.labels import CLUSTER as CLUSTER_LABEL
from pushcluster_operator.kube.labels import COMPONENT as COMPONENT_LABEL
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.spec.pushcluster import API_GROUP, KIND, PLURAL
from pushcluster_operator.sweep.sweeper import Key

CHILDREN: Final = (
    ("", "configmaps"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "pods"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("policy", "poddisruptionbudgets"),
)
"""API group and plural of what is watched besides PushClusters. Secrets are not: the operator may not list them."""

Wake = Callable[[Key], Awaitable[None]]


def build_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: the watches deliver only labelled children, and kopf posts no Events."""
    # At INFO this logger writes a line for every event that a handler took.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    for group, plural in CHILDREN:
        settings.watching.label_selectors[group, "v1", plural] = CLUSTER_LABEL
    return settings


def build_registry(*, reconcile: Wake, sweep: Wake, canary: Canary) -> kopf.OperatorRegistry:
    """Return the handlers. An event wakes the reconcile of its PushCluster; a gateway pod's also the sweep."""
    registry = kopf.OperatorRegistry()

    async def on_push_cluster(namespace: str | None, name: str | None, **_: Any) -> None:
        await reconcile((namespace or "", name or ""))
        await sweep((namespace or "", name or ""))

    async def on_child(namespace: str | None, name: str | None, meta: Any, **_: Any) -> None:
        if canary.receive(namespace or "", name or ""):
            return
        await reconcile((namespace or "", _find_cluster(meta)))

    async def on_pod(namespace: str | None, labels: Any, **_: Any) -> None:
        key = (namespace or "", labels.get(CLUSTER_LABEL, ""))
        await reconcile(key)
        if labels.get(COMPONENT_LABEL) == Component.GATEWAY:
            await sweep(key)

    kopf.on.login(registry=registry)(_login)
    kopf.on.event(API_GROUP, PLURAL, registry=registry)(on_push_cluster)
    for group, plural in CHILDREN:
        handler = on_pod if plural == "pods" else on_child
        kopf.on.event(group, "v1", plural, registry=registry, id=f"{handler.__name__}-{plural}")(handler)
    return registry


def _find_cluster(meta: Mapping[str, Any]) -> str:
    """Return the name of a child's PushCluster. The owner counts before the label, which somebody may have edited."""
    owners = [owner for owner in meta.get("ownerReferences") or [] if owner.get("kind") == KIND]
    labels = meta.get("labels") or {}
    return str(owners[0]["name"] if owners else labels.get(CLUSTER_LABEL, ""))


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the ServiceAccount of this pod. Outside of a pod, log in with the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
