"""A PushCluster under test: applied with kubectl, reached through NodePorts on 127.0.0.1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from demo.expose import Access, build_services, expose
from demo.kubectl import Cluster, CommandFailed, Kubectl
from tests.support.waiting import eventually_sync

NAME = "demo"
READY_WITHIN_S = 300
KUBECTL_EVERY_S = 0.2
T = TypeVar("T")


def build_push_cluster(spec: dict[str, Any], name: str = NAME) -> dict[str, Any]:
    """Return the object as a user would write it."""
    return {"apiVersion": "pushcluster.dev/v1alpha1", "kind": "PushCluster", "metadata": {"name": name}, "spec": spec}


def eventually(probe: Callable[[], T], *, within_s: float, what: str) -> T:
    """Return the first truthy answer of `probe`; a failing kubectl counts as not yet."""
    return eventually_sync(probe, within_s, what=what, not_yet=CommandFailed, poll_s=KUBECTL_EVERY_S)


@dataclass(frozen=True, slots=True)
class PushCluster:
    """Handles to one Ready PushCluster."""

    host: Cluster
    kubectl: Kubectl
    access: Access

    @classmethod
    @contextmanager
    def namespace(cls, host: Cluster, name: str) -> Iterator[Kubectl]:
        """Make a namespace that enforces restricted Pod Security; delete it at the end, without waiting."""
        kubectl = host.kubectl(name)
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "pushcluster.dev/test": "e2e"}
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            yield kubectl
        finally:
            kubectl("delete", "namespace", name, "--wait=false")

    @classmethod
    @contextmanager
    def create(cls, host: Cluster, namespace: str, spec: dict[str, Any], *, slot: int) -> Iterator[Self]:
        """Apply a PushCluster in a namespace of its own and wait until it is Ready; slot 1 to 3."""
        with cls.namespace(host, namespace) as kubectl:
            kubectl.apply(build_push_cluster(spec))
            wait_ready(kubectl)
            access = expose(host, kubectl, NAME, slot=slot)
            try:
                yield cls(host, kubectl, access)
            finally:
                # A namespace goes slowly, and the next PushCluster of this slot needs the node ports.
                services = build_services(NAME, host.first_node_port)
                names = [service["metadata"]["name"] for service in services]
                kubectl("delete", "service", "--ignore-not-found", *names)

    def pods(self, component: str) -> list[Any]:
        """Return the pods of a component, those that are being deleted too."""
        selector = f"pushcluster.dev/cluster={NAME},pushcluster.dev/component={component}"
        return self.kubectl.items("pods", "--selector", selector)

    def condition(self, type_: str) -> dict[str, Any]:
        """Return one condition of the status; an empty one when it is missing."""
        return get_condition(self.kubectl, type_)

    def wait_ready(self) -> None:
        """Wait until the PushCluster is Ready at its current generation."""
        wait_ready(self.kubectl)


def get_condition(kubectl: Kubectl, type_: str) -> dict[str, Any]:
    """Return one condition of the PushCluster; an empty one when it is missing."""
    status = kubectl.get("pcl", NAME).get("status", {})
    return next((c for c in status.get("conditions", []) if c["type"] == type_), {})


def wait_ready(kubectl: Kubectl) -> None:
    """Wait until the PushCluster is Ready at its current generation; the error shows its status."""

    def is_ready() -> bool:
        pc = kubectl.get("pcl", NAME)
        ready: dict[str, Any] = next(
            (c for c in pc.get("status", {}).get("conditions", []) if c["type"] == "Ready"), {}
        )
        return ready.get("status") == "True" and ready.get("observedGeneration") == pc["metadata"]["generation"]

    try:
        eventually(is_ready, within_s=READY_WITHIN_S, what=f"PushCluster {kubectl.namespace}/{NAME} is Ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{kubectl('describe', 'pcl', NAME)}\n{kubectl('get', 'pods')}") from None
