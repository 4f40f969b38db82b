"""What all children promise: restricted pods, names and labels in one form, secrets where they belong."""

import json

import pytest

from pushcluster_contract import env
from pushcluster_operator.kube.manifest import decode_data
from pushcluster_operator.spec import quantities
from tests.unit.operator.objects import (
    UID,
    children,
    container,
    environment,
    pod_spec,
)

ALL = children()
WORKLOADS = [name for name in ALL if name.split("/")[0] in {"Deployment", "StatefulSet"}]
PROGRAMS = ["Deployment/demo-gateway", "Deployment/demo-dispatcher"]


def test_the_same_inputs_give_the_same_children() -> None:
    assert children() == children()


def test_the_whole_cluster_has_these_children() -> None:
    assert sorted(ALL) == [
        "ConfigMap/demo-rabbitmq",
        "ConfigMap/demo-redis",
        "Deployment/demo-dispatcher",
        "Deployment/demo-gateway",
        "PodDisruptionBudget/demo-dispatcher",
        "PodDisruptionBudget/demo-gateway",
        "Secret/demo-api",
        "Secret/demo-connections",
        "Secret/demo-jwt",
        "Secret/demo-producer",
        "Secret/demo-rabbitmq",
        "Secret/demo-redis",
        "Service/demo-dispatcher",
        "Service/demo-gateway",
        "Service/demo-rabbitmq",
        "Service/demo-rabbitmq-nodes",
        "Service/demo-redis",
        "ServiceAccount/demo-dispatcher",
        "ServiceAccount/demo-gateway",
        "StatefulSet/demo-rabbitmq",
        "StatefulSet/demo-redis",
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_child_is_owned_and_labelled(name: str) -> None:
    metadata = ALL[name]["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "PushCluster",
        UID,
        True,
        False,
    )
    assert metadata["labels"]["pushcluster.dev/cluster"] == "demo"
    assert metadata["namespace"] == "team"


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_passes_the_restricted_pod_security_standard(name: str) -> None:
    pod, only = pod_spec(ALL[name]), container(ALL[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "secret", "emptyDir", "projected"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod.get("volumes", []))


@pytest.mark.parametrize("name", WORKLOADS)
def test_selectors_match_the_pods_and_services_find_them(name: str) -> None:
    workload = ALL[name]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = ALL[f"Service/{workload['metadata']['name']}"]
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {port["name"] for port in container(workload)["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("name", WORKLOADS)
def test_quantities_stand_in_the_form_in_which_the_api_server_gives_them_back(name: str) -> None:
    resources = container(ALL[name])["resources"]
    for quantity in (*resources["requests"].values(), *resources["limits"].values()):
        assert quantities.canonical(quantity) == quantity


def test_a_whole_cluster_asks_for_less_than_half_a_core() -> None:
    requests = [
        quantities.parse(container(ALL[name])["resources"]["requests"]["cpu"]) * ALL[name]["spec"]["replicas"]
        for name in WORKLOADS
    ]
    assert sum(requests) < 0.5


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_get_their_settings(name: str) -> None:
    values = environment(ALL[name])
    assert values[env.CLUSTER] == "team.demo"
    assert values[env.POD_UID] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert values[env.REDIS_URL] == {"secretKeyRef": {"name": "demo-connections", "key": "redis-url"}}
    assert values[env.ROUTING_MODE] == "Session"
    assert values[env.RESUME_WINDOW_SECONDS] == "120"


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_secret_stands_in_a_pod_template_or_a_config_map(name: str) -> None:
    values = [value for key in ALL if key.startswith("Secret/") for value in decode_data(ALL[key]).values()]
    secrets = {value for value in values if len(value) == 43}
    assert len(secrets) >= 1
    text = json.dumps([ALL[name], ALL["ConfigMap/demo-rabbitmq"], ALL["ConfigMap/demo-redis"]])
    assert not [secret for secret in secrets if secret in text]


def test_a_roll_takes_no_gateway_away_before_another_is_ready() -> None:
    gateway = ALL["Deployment/demo-gateway"]
    assert gateway["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert pod_spec(gateway)["terminationGracePeriodSeconds"] > 60


@pytest.mark.parametrize("component", ["gateway", "dispatcher"])
def test_a_budget_never_blocks_the_drain_of_a_single_replica(component: str) -> None:
    budget = ALL[f"PodDisruptionBudget/demo-{component}"]["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert f"PodDisruptionBudget/demo-{component}" not in children({component: {"replicas": 1}})


def test_an_image_of_the_spec_comes_before_the_operators() -> None:
    assert container(ALL["Deployment/demo-gateway"])["image"] == "gateway:1"
    chosen = children({"gateway": {"image": "mine:2"}})
    assert container(chosen["Deployment/demo-gateway"])["image"] == "mine:2"
    assert container(chosen["Deployment/demo-dispatcher"])["image"] == "dispatcher:1"


def test_without_the_api_there_is_neither_its_service_nor_its_key() -> None:
    chosen = children({"dispatcher": {"api": {"enabled": False}}})
    assert not {"Service/demo-dispatcher", "Secret/demo-api"} & chosen.keys()
    values = environment(chosen["Deployment/demo-dispatcher"])
    assert values[env.API_ENABLED] == "false"
    assert env.API_KEY not in values
