"""Redis and RabbitMQ for tests and benchmarks, without a PushCluster around them.

They keep messages with the same settings as a PushCluster's. `plane.py` takes Redis and RabbitMQ from the operator's
children instead.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from local_run.containers import Container, ContainerSpec, rabbitmq_is_ready, redis_is_ready, remove_orphans
from local_run.images import find_image
from local_run.reaper import Reaper
from pushcluster_contract.limits import BROKER_MAX_MESSAGE_BYTES
from pushcluster_operator.children.rabbitmq import AMQP_PORT, METRICS_PORT, WAL_BYTES, WATERMARK_PERCENT
from pushcluster_operator.children.redis import REDIS_PORT, STREAM_NODE_BYTES

READY_WITHIN_S: Final = 60.0
USER: Final = "local"
"""RabbitMQ's user, who may do everything."""
MANAGEMENT_PORT: Final = 15_672
WEB_STOMP_PORT: Final = 15_674
NO_BUSY_WAITING: Final = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Turns off Erlang's busy waiting, which would count as processor time without work."""
ONE_SCHEDULER: Final = "+S 1:1"

_PLUGIN_SETTINGS: Final = {
    "rabbitmq_management": "management_agent.disable_metrics_collector = true\n",
    "rabbitmq_prometheus": f"prometheus.tcp.port = {METRICS_PORT}\n",
    "rabbitmq_web_stomp": f"web_stomp.tcp.port = {WEB_STOMP_PORT}\n",
}


def build_redis(password: str, *, max_memory: str) -> ContainerSpec:
    """Return a Redis that loses nothing it has answered and evicts nothing. `max_memory` is as in redis.conf."""
    return ContainerSpec(
        name="redis",
        image=find_image("redis"),
        ports=(REDIS_PORT,),
        is_ready=lambda port: redis_is_ready(port, password),
        command=(
            *("redis-server", "--requirepass", password, "--dir", "/data"),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory", max_memory, "--maxmemory-policy", "noeviction"),
            *("--stream-node-max-bytes", str(STREAM_NODE_BYTES)),
        ),
        volumes=("/data",),
    )


def build_rabbitmq(
    password: str,
    *,
    memory: str,
    plugins: Sequence[str] = ("rabbitmq_management",),
    published: Sequence[int] = (MANAGEMENT_PORT,),
    erlang: Sequence[str] = (ONE_SCHEDULER, NO_BUSY_WAITING),
    default_queue_type: str = "quorum",
) -> ContainerSpec:
    """Return one broker. `memory` is written as in rabbitmq.conf; `published` are further ports besides AMQP's.

    The management API is on because it makes a vhost in milliseconds; `rabbitmqctl` takes seconds.
    """
    settings = {
        "log.console": "true",
        "log.console.level": "warning",
        "log.file": "false",
        "listeners.tcp.default": AMQP_PORT,
        "default_user": USER,
        "default_pass": password,
        "loopback_users": "none",
        "default_queue_type": default_queue_type,
        "total_memory_available_override_value": memory,
        "vm_memory_high_watermark.relative": WATERMARK_PERCENT / 100,
        "disk_free_limit.absolute": "100MB",
        "max_message_size": BROKER_MAX_MESSAGE_BYTES,
        "quorum_queue.wal_max_size_bytes": WAL_BYTES,
    }
    configuration = "".join(f"{name} = {value}\n" for name, value in settings.items())
    configuration += "".join(_PLUGIN_SETTINGS[plugin] for plugin in plugins)
    return ContainerSpec(
        name="rabbitmq",
        image=find_image("rabbitmq"),
        ports=(AMQP_PORT, *published),
        is_ready=rabbitmq_is_ready,
        command=("rabbitmq-server",),
        env={"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(erlang)},
        files={
            "/etc/rabbitmq/rabbitmq.conf": configuration.encode(),
            "/etc/rabbitmq/enabled_plugins": f"[{','.join(plugins)}].\n".encode(),
        },
        volumes=("/var/lib/rabbitmq",),
        hostname="rabbitmq",
    )


@contextmanager
def running(*specs: ContainerSpec, run_id: str) -> Iterator[list[Container]]:
    """Run all containers until the end of the block. They are ready when the block begins.

    Raises LocalRunError, which says what is missing.
    """
    remove_orphans()
    reaper = Reaper()

    def start(spec: ContainerSpec) -> Container:
        container = Container.run(spec, reaper, run_id)
        container.wait_ready(READY_WITHIN_S)
        return container

    try:
        with ThreadPoolExecutor() as pool:
            containers = list(pool.map(start, specs))
        yield containers
    finally:
        reaper.close()
