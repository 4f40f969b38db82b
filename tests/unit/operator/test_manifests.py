"""What is installed fits what the operator does."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pushcluster_contract import env
from pushcluster_operator.children import PushCluster
from pushcluster_operator.controller.canary import NAME as CANARY
from pushcluster_operator.controller.snapshot import LISTED_KINDS
from pushcluster_operator.controller.watches import CHILDREN
from pushcluster_operator.kube.client import RESOURCES
from pushcluster_operator.kube.leader import NAME as LEASE
from pushcluster_operator.kube.plan import KEPT_KINDS
from pushcluster_operator.settings import Settings
from pushcluster_runtime.settings import EnvironmentVariables

MANIFESTS = Path(__file__).parents[3] / "manifests"


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


ROLE = load("base/cluster-role.yaml")[0]
DEPLOYMENT = load("base/deployment.yaml")[0]


def verbs(plural: str) -> set[str]:
    return {verb for rule in ROLE["rules"] if plural in rule.get("resources", ()) for verb in rule["verbs"]}


@pytest.mark.parametrize("plural", [plural for _, plural in CHILDREN])
def test_what_is_watched_may_be_watched(plural: str) -> None:
    assert {"list", "watch"} <= verbs(plural)


@pytest.mark.parametrize("kind", [kind for kind in LISTED_KINDS if kind not in KEPT_KINDS])
def test_what_is_applied_may_be_applied(kind: str) -> None:
    assert {"get", "list", "create", "patch"} <= verbs(RESOURCES[kind].plural)


def test_secrets_are_never_listed_watched_or_deleted() -> None:
    assert verbs("secrets") == {"get", "create", "patch"}


def test_nothing_with_data_and_no_pushcluster_may_be_deleted() -> None:
    deletable = {name for rule in ROLE["rules"] if "delete" in rule["verbs"] for name in rule["resources"]}
    assert deletable == {"services", "poddisruptionbudgets"}


def test_no_right_has_a_star() -> None:
    for rule in (*ROLE["rules"], *load("base/role.yaml")[0]["rules"]):
        assert "*" not in "".join(word for words in rule.values() for word in words)


def test_the_version_of_kubernetes_may_be_read() -> None:
    """Every user may by default; clusters that take that right away still have it for the operator."""
    assert {"nonResourceURLs": ["/version"], "verbs": ["get"]} in ROLE["rules"]


def test_the_lease_may_be_kept() -> None:
    create, keep = load("base/role.yaml")[0]["rules"]
    assert create["verbs"] == ["create"]
    assert (keep["resourceNames"], keep["verbs"]) == ([LEASE], ["get", "update"])
    assert "patch" in verbs("configmaps"), f"for {CANARY}"


def test_the_operators_pod_is_restricted() -> None:
    pod = DEPLOYMENT["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    labels = load("base/namespace.yaml")[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_operator_can_read_the_settings_that_its_deployment_gives() -> None:
    (container,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value", "from-field") for entry in container["env"]}
    settings = Settings.parse(EnvironmentVariables(values))
    assert settings.watch_namespaces == ()
    assert settings.images.rabbitmq == "rabbitmq:4.3"
    assert set(values) == {
        env.OPERATOR_NAMESPACE,
        env.POD_NAME,
        env.WATCH_NAMESPACES,
        env.IMAGE_GATEWAY,
        env.IMAGE_DISPATCHER,
        env.IMAGE_RABBITMQ,
        env.IMAGE_REDIS,
    }


def test_namespaces_are_parted_by_spaces() -> None:
    values = {env.OPERATOR_NAMESPACE: "a", env.POD_NAME: "b", env.WATCH_NAMESPACES: " one  two "}
    assert Settings.parse(EnvironmentVariables(values)).watch_namespaces == ("one", "two")


def test_kustomize_names_every_file_of_the_base() -> None:
    (kustomization,) = load("base/kustomization.yaml")
    files = {path.name for path in (MANIFESTS / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files


def test_the_sample_is_a_valid_pushcluster() -> None:
    namespace, sample = load("samples/demo.yaml")
    assert sample["metadata"] == {"name": "demo", "namespace": namespace["metadata"]["name"]}
    assert PushCluster.from_body(sample).spec.gateway.replicas == 2
