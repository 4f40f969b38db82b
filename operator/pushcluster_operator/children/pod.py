"""What the pods of all children have in common: restricted Pod Security, probes, environment."""

from collections.abc import Mapping
from typing import Any, Final

from pushcluster_contract import env
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.kube.labels import Component, build_labels, build_selector
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.resources import Resources

PROGRAM_UID: Final = 10_001
STORE_UID: Final = 999
"""The user of the public redis and rabbitmq images."""
ADMIN_PORT: Final = 9_090
SERVED_PORT: Final = 8_080
CONFIG_CHECKSUM: Final = "pushcluster.dev/config-checksum"
"""Pod annotation. It changes with every Secret and ConfigMap that the pod reads only when it starts."""

CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_security(uid: int) -> Manifest:
    """Return a pod's security context: the Pod Security Standard `restricted`, with one fixed user."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def build_resources(resources: Resources) -> Manifest:
    """Return a container's `resources`."""
    limits = {"memory": resources.memory_limit}
    if resources.cpu_limit is not None:
        limits["cpu"] = resources.cpu_limit
    return {"requests": {"cpu": resources.cpu_request, "memory": resources.memory_request}, "limits": limits}


def build_spread(inputs: Inputs, component: Component) -> list[Manifest]:
    """Return constraints that prefer different nodes but never leave a pod unscheduled."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": build_selector(inputs.cluster.identity, component)},
            # During a roll, the old pods that are about to leave must not push the new ones onto one node.
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]


def variable(name: str, value: object) -> Manifest:
    """Return an environment variable with a plain value.

    `$` is written as `$$`. Otherwise the kubelet would replace `$(NAME)` by another variable, such as an address with
    its password.
    """
    return {"name": name, "value": str(value).replace("$", "$$")}


def from_field(name: str, path: str) -> Manifest:
    """Return an environment variable that the kubelet fills from the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def from_secret(name: str, secret: str, key: str) -> Manifest:
    """Return an environment variable that the kubelet fills from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def build_program_environment(inputs: Inputs) -> list[Manifest]:
    """Return the variables that gateways and dispatchers share."""
    identity, spec, names = inputs.cluster.identity, inputs.cluster.spec, inputs.names
    return [
        variable(env.CLUSTER, identity.id),
        from_field(env.POD_NAME, "metadata.name"),
        from_field(env.POD_UID, "metadata.uid"),
        from_secret(env.AMQP_URL, names.connections, "amqp-url"),
        from_secret(env.REDIS_URL, names.connections, "redis-url"),
        variable(env.ROUTING_MODE, spec.routing_mode.value),
        variable(env.ADMIN_PORT, ADMIN_PORT),
        variable(env.OFFLINE_TTL_SECONDS, spec.delivery.offline_ttl_seconds),
        variable(env.OFFLINE_MAX_PER_DESTINATION, spec.delivery.offline_max_per_destination),
        variable(env.RESUME_WINDOW_SECONDS, spec.delivery.resume_window_seconds),
    ]


def build_program_container(
    name: str, image: str, port_name: str, environment: list[Manifest], resources: Resources
) -> Manifest:
    """Return the container of one of our own programs: a port for clients, and the admin port for probes."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment,
        "ports": [
            {"name": port_name, "containerPort": SERVED_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": build_resources(resources),
        "securityContext": CONTAINER_SECURITY,
        "startupProbe": {"httpGet": {"path": "/healthz", "port": "admin"}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "admin"}, "periodSeconds": 10, "failureThreshold": 3},
    }


def build_pod_template(labels: Mapping[str, str], checksum: str, spec: Manifest) -> Manifest:
    """Return a pod template without a ServiceAccount token, and without the Services' environment variables."""
    return {
        "metadata": {"labels": dict(labels), "annotations": {CONFIG_CHECKSUM: checksum}},
        "spec": {"automountServiceAccountToken": False, "enableServiceLinks": False, **spec},
    }


def empty_dir(name: str) -> dict[str, Any]:
    """Return an empty volume that is deleted with the pod."""
    return {"name": name, "emptyDir": {}}


def build_program(
    inputs: Inputs, component: Component, *, name: str, replicas: int, container: Manifest, grace_s: int, checksum: str
) -> Manifest:
    """Return a Deployment. In a roll-out, an old pod ends only after a new one is ready."""
    identity = inputs.cluster.identity
    pod = {
        "serviceAccountName": name,
        "securityContext": pod_security(PROGRAM_UID),
        "terminationGracePeriodSeconds": grace_s,
        "topologySpreadConstraints": build_spread(inputs, component),
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": inputs.metadata(name, component),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 120,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": build_selector(identity, component)},
            "template": build_pod_template(build_labels(identity, component), checksum, pod),
        },
    }
