"""Everything that exists of one PushCluster, read anew from the API server."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pushcluster_operator.kube import labels
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import (
    Manifest,
    ObjectKey,
    decode_data,
    key_of,
)
from pushcluster_operator.kube.names import Names
from pushcluster_operator.kube.plan import is_controlled
from pushcluster_operator.spec.pushcluster import ClusterIdentity, PushCluster
from pushcluster_operator.status.conditions import ObservedState, build_fields_unknown
from pushcluster_operator.status.warnings import build_auth_warnings, build_memory_warnings
from pushcluster_operator.status.workloads import Workload, observe

LISTED_KINDS: Final = ("ConfigMap", "Service", "ServiceAccount", "StatefulSet", "Deployment", "PodDisruptionBudget")
"""Kinds of children that are listed by label. Secrets are read by name, because the operator may not list them."""


@dataclass(slots=True)
class Snapshot:
    """Children (including Secrets), pods, and Secrets by name. What is found or written later may be added."""

    children: dict[ObjectKey, Manifest]
    secrets: dict[str, Manifest]
    pods: Mapping[str, list[Manifest]]
    """By component."""

    def connection_url(self, identity: ClusterIdentity, key: str) -> str | None:
        """Return a URL from the Secret `<cluster>-connections`. None if it is missing or somebody else's."""
        secret = self.secrets.get(Names.of(identity).connections)
        return decode_data(secret).get(key) if secret is not None and is_controlled(secret, identity) else None

    def has_ready_dispatcher(self, names: Names) -> bool:
        """Return whether a dispatcher is ready. It has then declared every exchange, queue and binding."""
        deployment = self.children.get(ObjectKey("Deployment", names.dispatcher), {})
        return bool(deployment.get("status", {}).get("readyReplicas", 0))

    def ready_containers(self, component: Component) -> frozenset[str]:
        """Return the ids of a component's containers that are ready."""
        statuses = (pod.get("status", {}).get("containerStatuses") or [] for pod in self.pods.get(component.value, []))
        return frozenset(status["containerID"] for each in statuses for status in each if status.get("ready"))

    async def observe(self, kube: KubeClient, cluster: PushCluster) -> ObservedState:
        """Return how far every component has come. Volume claims are read only while a store is not ready."""
        names, spec = Names.of(cluster.identity), cluster.spec

        async def observe_store(name: str, component: Component) -> Workload:
            workload = self._workload("StatefulSet", name, 1, component)
            if workload.ready:
                return workload
            selector = labels.selector_text(cluster.identity, component)
            claims = await kube.list_objects("PersistentVolumeClaim", cluster.identity.namespace, selector)
            return self._workload("StatefulSet", name, 1, component, claims)

        return ObservedState(
            rabbitmq=await observe_store(names.rabbitmq, Component.RABBITMQ),
            redis=await observe_store(names.redis, Component.REDIS),
            gateway=self._workload("Deployment", names.gateway, spec.gateway.replicas, Component.GATEWAY),
            dispatcher=self._workload("Deployment", names.dispatcher, spec.dispatcher.replicas, Component.DISPATCHER),
            warnings=(
                *build_fields_unknown(cluster.unknown_fields),
                *build_auth_warnings(spec.gateway),
                *build_memory_warnings(spec),
            ),
            paused=cluster.identity.paused,
        )

    def _workload(
        self, kind: str, name: str, desired: int, component: Component, claims: list[Manifest] | None = None
    ) -> Workload:
        return observe(
            desired, self.children.get(ObjectKey(kind, name)), self.pods.get(component.value, []), claims or ()
        )


async def read_snapshot(kube: KubeClient, identity: ClusterIdentity, referenced: Collection[str] = ()) -> Snapshot:
    """Return the snapshot, with the Secrets that `referenced` names. Raise Unavailable or Refused.

    After an error, nothing may be concluded about what exists.
    """
    selector = f"{labels.CLUSTER}={identity.name}"
    names = Names.of(identity)
    wanted = [names.rabbitmq, names.redis, names.connections, names.jwt, names.api, names.producer]
    wanted += [name for name in referenced if name not in wanted]
    lists, pods, secrets = await asyncio.gather(
        asyncio.gather(*(kube.list_objects(kind, identity.namespace, selector) for kind in LISTED_KINDS)),
        kube.list_objects("Pod", identity.namespace, selector),
        asyncio.gather(*(kube.get("Secret", identity.namespace, name) for name in wanted)),
    )
    children = {key_of(item): item for items in lists for item in items}
    by_name: dict[str, Manifest] = {}
    for name, secret in zip(wanted, secrets, strict=True):
        if secret is not None:
            by_name[name] = secret
            if name not in referenced:
                children[ObjectKey("Secret", name)] = secret
    by_component: dict[str, list[Manifest]] = {}
    for pod in pods:
        component: Any = (pod["metadata"].get("labels") or {}).get(labels.COMPONENT)
        by_component.setdefault(component, []).append(pod)
    return Snapshot(children, by_name, by_component)
