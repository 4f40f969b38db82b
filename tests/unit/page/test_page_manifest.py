"""The sample's manifest fits the page's settings and the children of the PushCluster `demo`."""

import os
from pathlib import Path
from typing import Any

import yaml

from local_run.plan import LocalCluster
from local_run.pods import PodIdentity, only_container, pod_spec, read_environment
from pushcluster_operator.children import Images
from pushcluster_page.settings import STOMPJS_FILE, Settings

SAMPLE = Path(__file__).parent.parent.parent.parent / "manifests" / "samples" / "page.yaml"


def sample(kind: str) -> dict[str, Any]:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(SAMPLE.read_text()))
    return next(document for document in documents if document["kind"] == kind)


def demo() -> LocalCluster:
    body = {"kind": "PushCluster", "metadata": {"name": "demo"}, "spec": {}}
    return LocalCluster.from_body(body, Images("g", "d", "m", "r"), os.urandom)


def test_its_environment_is_all_that_the_page_needs_beside_the_images_own(tmp_path: Path) -> None:
    (tmp_path / STOMPJS_FILE).touch()
    cluster = demo()
    pod = PodIdentity("demo-page-0", "uid", "default")
    environment = read_environment(only_container(sample("Deployment")), pod, cluster.children)
    settings = Settings.load({**environment, "PAGE_STOMPJS_DIR": str(tmp_path)})
    assert settings.jwt_key == cluster.jwt_key
    assert settings.api_key == cluster.api_key
    assert set(environment) <= {f"PAGE_{name}" for name in ("WS_URL", "API_URL", "USERS", "PORT", "JWT_KEY", "API_KEY")}


def test_it_calls_the_dispatchers_by_their_services_name_and_port() -> None:
    service = demo().children.of_component("Service", "dispatcher")
    environment = {entry["name"]: entry.get("value") for entry in only_container(sample("Deployment"))["env"]}
    assert environment["PAGE_API_URL"] == f"http://{service['metadata']['name']}"
    assert service["spec"]["ports"][0]["port"] == 80


def test_it_runs_under_restricted_pod_security() -> None:
    pod = pod_spec(sample("Deployment"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10_001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only_container(sample("Deployment"))["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_its_service_selects_its_pods_and_their_port() -> None:
    deployment, service = sample("Deployment"), sample("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == only_container(deployment)["ports"][0]["name"]
