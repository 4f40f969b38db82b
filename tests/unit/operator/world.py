"""A reconciler over an API server in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from pushcluster_operator.controller.reconciler import Reconciler
from pushcluster_operator.controller.version_checks import VersionChecks
from pushcluster_operator.kube.events import EventRecorder
from pushcluster_operator.kube.manifest import Manifest, decode_data
from pushcluster_operator.metrics import Metrics
from pushcluster_operator.spec.pushcluster import KIND
from pushcluster_operator.sweep.sweeper import Key, Sweeper
from tests.unit.operator.fake_kube import FakeKube
from tests.unit.operator.objects import IMAGES, NAME, NAMESPACE, body

KEY = (NAMESPACE, NAME)


@dataclass(slots=True)
class World:
    """A reconciler over an API server in memory, with a clock that only moves when told."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 1_000.0
    watched: list[Key] = field(default_factory=list)
    reconciler: Reconciler = field(init=False)
    sweeper: Sweeper = field(init=False)
    randomness: int = 0
    rabbitmq_trouble: Exception | None = None
    """What a connection to RabbitMQ fails with."""
    rabbitmq_asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        metrics = Metrics(CollectorRegistry())
        recorder = EventRecorder(self.kube, now=self.now, clock=lambda: self.seconds)
        self.sweeper = Sweeper(self.kube, recorder, metrics, clock=lambda: self.seconds, now=self.now)

        async def on_watched(key: Key) -> None:
            self.watched.append(key)

        versions = VersionChecks(self.kube, clock=lambda: self.seconds, connect=self.connect_to_rabbitmq)
        self.reconciler = Reconciler(
            self.kube, self.sweeper, recorder, metrics, IMAGES, versions, on_watched,
            entropy=self.entropy, clock=lambda: self.seconds, now=self.now,
        )  # fmt: skip

    async def connect_to_rabbitmq(self, url: str) -> None:
        self.rabbitmq_asked.append(url)
        if self.rabbitmq_trouble is not None:
            raise self.rabbitmq_trouble

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def entropy(self, size: int) -> bytes:
        self.randomness += 1
        return self.randomness.to_bytes(size)

    async def look(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def settle(self) -> None:
        """Look, let Kubernetes do its part, and look again until nothing is written any more."""
        for _ in range(4):
            await self.look()
            self.run_workloads()
        self.kube.writes.clear()
        self.kube.events.clear()

    def run_workloads(self) -> None:
        """Make every workload ready, as its controller would."""
        for key, item in list(self.kube.objects.items()):
            if key.kind in {"Deployment", "StatefulSet"}:
                number = item["spec"]["replicas"]
                status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), number)
                if item.get("status") != status:
                    self.kube.put({**item, "status": status})

    def pod(self, component: str, container_id: str) -> None:
        """Have one pod of a component, whose container runs."""
        labels = {"pushcluster.dev/cluster": NAME, "pushcluster.dev/component": component}
        state = {"name": component, "ready": True, "containerID": container_id, "state": {"running": {}}}
        metadata = {"name": f"{NAME}-{component}-0", "namespace": NAMESPACE, "labels": labels}
        self.kube.put({"kind": "Pod", "metadata": metadata, "status": {"containerStatuses": [state]}})

    def spec(self, spec: dict[str, Any], **metadata: Any) -> None:
        former = self.kube.at(KIND, NAME) if self.kube.objects else {}
        self.kube.put({**body(spec, **metadata), "status": former.get("status", {})})

    def condition(self, type_: str) -> dict[str, Any]:
        conditions: list[dict[str, Any]] = self.kube.at(KIND, NAME)["status"]["conditions"]
        return next((each for each in conditions if each["type"] == type_), {})

    def secret(self, name: str) -> dict[str, str]:
        return decode_data(self.kube.at("Secret", name))

    def checksum(self, deployment: str) -> str:
        """Return what changes in a Deployment's pods with everything that they read only at their start."""
        template: Manifest = self.kube.at("Deployment", deployment)["spec"]["template"]
        return str(template["metadata"]["annotations"]["pushcluster.dev/config-checksum"])
