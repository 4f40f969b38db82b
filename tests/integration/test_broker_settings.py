"""RabbitMQ as the operator configures it: the running broker says what it uses, not only what it was told."""

import os
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from local_run.containers import Container, ContainerSpec
from local_run.images import find_image
from local_run.plan import LocalCluster
from local_run.stores import running
from pushcluster_operator.children import Images
from pushcluster_operator.children.rabbitmq import WAL_BYTES
from tests.support.containers import Services

CONFIGURATION: Final = "/etc/rabbitmq/rabbitmq.conf"
_WAL: Final = "maps:get(wal_max_size_bytes, ra_system:fetch(quorum_queues))"
_COLLECTORS: Final = "supervisor:which_children(rabbit_mgmt_agent_sup)"

MEMORY_QUESTIONS: Final = {
    "total_memory_available_override_value": "vm_memory_monitor:get_total_memory()",
    "vm_memory_high_watermark.absolute": "vm_memory_monitor:get_memory_limit()",
    "disk_free_limit.absolute": "rabbit_disk_monitor:get_disk_free_limit()",
    "max_message_size": "persistent_term:get(max_message_size)",
    "quorum_queue.wal_max_size_bytes": _WAL,
    "management_agent.disable_metrics_collector": f"not lists:keymember(rabbit_mgmt_storage, 1, {_COLLECTORS})",
}
"""Each line of `rabbitmq.conf` that the arithmetic of memory and disk rests on → Erlang that says what is in force."""
OTHER_LINES: Final = {
    "listeners.tcp.default",
    "load_definitions",
    "anonymous_login_user",
    "log.file",
    "log.console",
    "log.console.level",
    "prometheus.tcp.port",
}


@pytest.fixture(scope="module")
def spec() -> ContainerSpec:
    body = {"kind": "PushCluster", "metadata": {"name": "demo", "namespace": "team"}, "spec": {}}
    images = Images("unused", "unused", rabbitmq=find_image("rabbitmq"), redis=find_image("redis"))
    return LocalCluster.from_body(body, images, os.urandom).store("rabbitmq")


@pytest.fixture(scope="module")
def settings(spec: ContainerSpec) -> Mapping[str, str]:
    return dict(line.split(" = ") for line in spec.files[CONFIGURATION].decode().splitlines())


@pytest.fixture(scope="module")
def broker(spec: ContainerSpec) -> Iterator[Container]:
    with running(spec, run_id="tests") as (container,):
        yield container


def ask(container: Container, questions: Mapping[str, str], *options: str) -> dict[str, str]:
    """Return what the broker answers to each question: an Erlang expression for a number or a truth."""
    asked = "".join(f'io:format("~s ~w~n", ["{name}", {question}]), ' for name, question in questions.items())
    answer = container.exec("rabbitmqctl", *options, "eval", f"{asked} ok.")
    pairs = (line.partition(" ") for line in answer.splitlines() if line != "ok")
    return {name: value for name, _, value in pairs}


def test_every_line_of_the_configuration_is_in_force_or_has_no_part_in_the_arithmetic(
    settings: Mapping[str, str],
) -> None:
    assert set(settings) == MEMORY_QUESTIONS.keys() | OTHER_LINES


def test_the_broker_uses_each_bound_of_memory_and_disk_that_it_was_given(
    broker: Container, settings: Mapping[str, str]
) -> None:
    answers = ask(broker, MEMORY_QUESTIONS, "--node", f"rabbit@{broker.spec.hostname}")
    assert answers == {name: settings[name] for name in MEMORY_QUESTIONS}


def test_the_broker_of_tests_and_benchmarks_has_the_same_log(services: Services) -> None:
    assert ask(services.rabbitmq, {"wal": _WAL}) == {"wal": str(WAL_BYTES)}
