"""StatefulSet `<cluster>-rabbitmq`: the broker."""

from typing import Final

from pushcluster_operator.children import rabbitmq_config, rabbitmq_secret
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    CONTAINER_SECURITY,
    STORE_UID,
    build_pod_template,
    build_resources,
    pod_security,
    scratch,
    variable,
)
from pushcluster_operator.children.store import build_store
from pushcluster_operator.kube.labels import Component, build_labels
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec.resources import Resources

CPU_REQUEST: Final = "50m"
MEMORY_REQUEST: Final = "192Mi"

# Erlang refuses a cookie that others may read, and a mounted Secret is readable by its group: so the cookie is copied.
# The node's name comes from the pod's own full name, whatever the Kubernetes cluster's domain is.
_START: Final = f"""umask 077
cp -f {rabbitmq_config.SECRET_DIRECTORY}/erlang-cookie /var/lib/rabbitmq/.erlang.cookie
chmod 0600 /var/lib/rabbitmq/.erlang.cookie
RABBITMQ_NODENAME="rabbit@$(hostname -f)"
export RABBITMQ_NODENAME
exec rabbitmq-server
"""


def build(inputs: Inputs) -> Manifest:
    """Build the StatefulSet."""
    names, broker = inputs.names, inputs.cluster.spec.rabbitmq
    container: Manifest = {
        "name": "rabbitmq",
        "image": broker.image or inputs.images.rabbitmq,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-ec", _START],
        "env": [
            variable("HOME", "/var/lib/rabbitmq"),
            variable("RABBITMQ_USE_LONGNAME", "true"),
            # Schedulers that find nothing to do sleep at once: an idle broker costs no CPU.
            variable("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none"),
        ],
        "ports": [
            {"name": "amqp", "containerPort": rabbitmq_config.AMQP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": rabbitmq_config.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": build_resources(Resources(CPU_REQUEST, MEMORY_REQUEST, broker.memory)),
        "securityContext": CONTAINER_SECURITY,
        # A socket, not a command: each of RabbitMQ's own commands starts an Erlang machine.
        "startupProbe": {"tcpSocket": {"port": "amqp"}, "periodSeconds": 1, "failureThreshold": 600},
        "readinessProbe": {"tcpSocket": {"port": "amqp"}, "periodSeconds": 2, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/rabbitmq"},
            {"name": "config", "mountPath": "/etc/rabbitmq", "readOnly": True},
            {"name": "secret", "mountPath": rabbitmq_config.SECRET_DIRECTORY, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # inside the container
            {"name": "log", "mountPath": "/var/log/rabbitmq"},
        ],
    }
    secret_items = [{"key": key, "path": key} for key in ("erlang-cookie", "definitions.json")]
    pod = {
        "securityContext": pod_security(STORE_UID),
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": names.rabbitmq}},
            {"name": "secret", "secret": {"secretName": names.rabbitmq, "items": secret_items}},
            scratch("tmp"),
            scratch("log"),
        ],
    }
    checksum = digest(rabbitmq_config.build(inputs)["data"], rabbitmq_secret.build(inputs)["data"])
    return build_store(
        inputs,
        Component.RABBITMQ,
        name=names.rabbitmq,
        service=names.rabbitmq_nodes,
        storage=broker.storage,
        template=build_pod_template(build_labels(inputs.cluster.identity, Component.RABBITMQ), checksum, pod),
    )
