"""kopf's part: watches, whose events only say which PushCluster to look at. It writes nothing, anywhere.

There are `on.event` handlers alone: every other kind would have kopf write annotations, and a finalizer for some.
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
"""API group and plural of what is watched besides PushClusters. Not Secrets: the operator may not list them."""

Wake = Callable[[Key], Awaitable[None]]


def build_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: only labelled children are sent over the watches, and nothing is posted."""
    # It logs every event that a handler took, with all of its settings.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    for group, plural in CHILDREN:
        settings.watching.label_selectors[group, "v1", plural] = CLUSTER_LABEL
    return settings


def build_registry(*, reconcile: Wake, sweep: Wake, canary: Canary) -> kopf.OperatorRegistry:
    """Return the handlers: an event wakes the reconcile of its PushCluster, and of a gateway pod the sweep as well."""
    registry = kopf.OperatorRegistry()

    async def on_push_cluster(namespace: str | None, name: str | None, **_: Any) -> None:
        await reconcile((namespace or "", name or ""))
        await sweep((namespace or "", name or ""))

    async def on_child(namespace: str | None, name: str | None, meta: Any, **_: Any) -> None:
        if canary.hear(namespace or "", name or ""):
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
    """Return the name of a child's PushCluster: by its owner first, for its label may be what was edited."""
    owners = [owner for owner in meta.get("ownerReferences") or [] if owner.get("kind") == KIND]
    labels = meta.get("labels") or {}
    return str(owners[0]["name"] if owners else labels.get(CLUSTER_LABEL, ""))


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the ServiceAccount of this pod, or outside of one as the kubeconfig says."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
