"""What is wrong with a pod or a volume claim: one word for programs, and a sentence for people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

EXIT_SETTINGS: Final = 2
"""The exit code of gateways and dispatchers when a setting is wrong (`pushcluster_runtime.process`)."""
OUT_OF_MEMORY: Final = "OOMKilled"
LOOPING_RESTARTS: Final = 2
"""After this many restarts, a container that is not ready counts as crash-looping, even while it runs."""
_IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_MAX_DETAIL_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem that will not pass by itself, or that has happened repeatedly."""

    reason: str
    """CamelCase."""
    message: str
    """What is wrong, and the next step."""


def find_troubles(pods: Iterable[Mapping[str, Any]]) -> tuple[Trouble, ...]:
    """Return what is wrong with a component's pods. Of several pods with the same trouble, the first is named."""
    first: dict[str, Trouble] = {}
    number: Counter[str] = Counter()
    for trouble in (trouble for pod in pods for trouble in _pod_troubles(pod)):
        first.setdefault(trouble.reason, trouble)
        number[trouble.reason] += 1
    return tuple(
        Trouble(
            reason, trouble.message + (f" ({more} more with the same problem)" if (more := number[reason] - 1) else "")
        )
        for reason, trouble in first.items()
    )


def find_claim_troubles(claims: Iterable[Mapping[str, Any]]) -> tuple[Trouble, ...]:
    """Return which claims still have no volume."""
    return tuple(
        Trouble(
            "VolumePending",
            f"volume claim {claim['metadata']['name']} has no volume yet. Usually a StorageClass is missing or its "
            f"provisioner does not run; `kubectl describe pvc {claim['metadata']['name']}` says why",
        )
        for claim in claims
        if claim.get("status", {}).get("phase") == "Pending"
    )


def find_creation_trouble(workload: Mapping[str, Any]) -> tuple[Trouble, ...]:
    """Return why a Deployment cannot create its pods (quota, admission), if that is so."""
    for condition in workload.get("status", {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            detail = _shorten(condition.get("message", ""))
            return (
                Trouble(
                    "PodsRefused", f"Kubernetes cannot create the pods: {detail}; raise the quota or change the policy"
                ),
            )
    return ()


def _pod_troubles(pod: Mapping[str, Any]) -> Iterator[Trouble]:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"]:
        return
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            detail = _shorten(condition.get("message", ""))
            yield Trouble(
                "Unschedulable", f"no node takes pod {name}: {detail}; add a node or lower the pod's resource requests"
            )
    for container in status.get("containerStatuses") or []:
        if trouble := _container_trouble(name, container):
            yield trouble


def _container_trouble(pod: str, container: Mapping[str, Any]) -> Trouble | None:
    if container.get("ready"):
        return None
    waiting = container.get("state", {}).get("waiting") or {}
    reason, detail = waiting.get("reason", ""), _shorten(waiting.get("message", ""))
    if reason in _IMAGE_REASONS:
        # One reason and no detail, because the kubelet's own alternate every few seconds.
        return Trouble(
            "ImagePullFailed",
            f"image {container.get('image', '')} of pod {pod} cannot be pulled; correct the image's name or give the "
            f"nodes access to its registry: `kubectl describe pod {pod}` says why",
        )
    if reason == "CreateContainerConfigError":
        return Trouble(reason, f"pod {pod} cannot start: {detail}; create the object that this names")
    if reason in {"CreateContainerError", "RunContainerError"}:
        return Trouble(reason, f"pod {pod} cannot start: {detail}")
    return _end_trouble(pod, container)


def _end_trouble(pod: str, container: Mapping[str, Any]) -> Trouble | None:
    """Return why the container ended. None if a single restart was enough so far."""
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended:
        return None
    if ended.get("reason") == OUT_OF_MEMORY:
        return Trouble(
            OUT_OF_MEMORY, f"pod {pod} used more memory than its limit and was killed; raise its memory limit"
        )
    if container.get("restartCount", 0) < LOOPING_RESTARTS:
        return None
    code, logs = ended.get("exitCode"), f"`kubectl logs {pod} --previous`"
    if code == EXIT_SETTINGS:
        return Trouble("BadSettings", f"pod {pod} refuses its settings; {logs} names the variable")
    return Trouble("CrashLoopBackOff", f"pod {pod} repeatedly ends with exit code {code}; {logs} says why")


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_DETAIL_CHARS else f"{text[:_MAX_DETAIL_CHARS]}…"
