"""What is asked of Docker, apt, Go and the registry."""

from pathlib import Path

import pytest

from local_cluster.app_images import certificates, image_name, plan_wheels
from local_cluster.apt import known_packages, parse_mirror
from local_cluster.base_images import PYTHON, RABBITMQ, REDIS, OuterImage, plan_bootstrap
from local_cluster.docker import CONTENT_LABEL, Recipe, plan_build
from local_cluster.engine import has_built_in_buildkit, is_dockerd, runtime_arguments
from local_cluster.kube_build import GoBuild, cluster_binary, linker_flags, parse_go_version
from local_cluster.node_image import KUBERNETES, PAUSE, NodeImage, plan_names
from local_cluster.registry import ENV_REGISTRY, Registry, means_reachable
from local_cluster.settings import NodePorts, Places, current_places


def test_a_registry_answers_when_it_wants_a_token_and_not_when_a_proxy_refuses() -> None:
    assert [status for status in (200, 401, 403, 407, 502) if means_reachable(status)] == [200, 401]


def test_no_registry_is_asked_when_the_user_says_never(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENV_REGISTRY, "never")
    registry = Registry()
    assert not registry.answers()
    assert not registry.pull("redis:8", Places(tmp_path, tmp_path))


def test_buildkit_is_built_into_docker_from_19_to_22() -> None:
    assert [has_built_in_buildkit(version) for version in ("18.09.1", "20.10.24+dfsg1", "23.0.1", "28.2.2", "")] == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_a_process_id_in_a_file_is_trusted_only_when_a_dockerd_has_it() -> None:
    assert not is_dockerd(1)
    assert not is_dockerd(2**22 + 1)


def test_the_bounded_runtime_is_dockerds_default_only_where_it_is_needed() -> None:
    assert runtime_arguments(None) == []
    assert runtime_arguments(Path("/c/runc")) == [
        "--add-runtime",
        "bounded=/c/runc",
        "--default-runtime",
        "bounded",
    ]


def test_an_image_is_labelled_with_what_it_was_made_of() -> None:
    recipe = Recipe("me:1", "abc", Path("/src"), Path("/src/Dockerfile"), {"BASE": "b"}, {"v": "1"}, "tools", "none")
    assert plan_build(recipe, "docker") == [
        *["docker", "build", "--network", "none", "--tag", "me:1", "--file", "/src/Dockerfile"],
        *["--label", f"{CONTENT_LABEL}=abc", "--label", "v=1", "--build-arg", "BASE=b", "--target", "tools", "/src"],
    ]


def test_the_mirror_is_the_main_archive_that_apt_knows() -> None:
    uris = ["http://mirror.example/debian-security/", "http://mirror.example/debian/"]
    assert parse_mirror(uris) == "http://mirror.example/debian"
    assert parse_mirror(["http://mirror.example/ubuntu"]) is None


def test_the_names_of_packages_stand_one_a_line() -> None:
    assert known_packages("docker.io\niptables\n") == {"docker.io", "iptables"}


def test_the_small_debian_takes_its_packages_and_later_updates_from_the_same_mirror() -> None:
    command = plan_bootstrap("http://mirror.example/debian")
    assert command[-1] == "http://mirror.example/debian"
    assert any("URIs: http://mirror.example/debian\\n" in argument for argument in command)


@pytest.mark.parametrize("image", [PYTHON, REDIS, RABBITMQ], ids=lambda image: image.name)
def test_each_outer_image_has_a_recipe_under_a_name_that_is_not_the_public_one(image: OuterImage) -> None:
    recipe = image.recipe(current_places())
    assert recipe.dockerfile.is_file()
    assert recipe.tag == image.local != image.public


def test_the_version_of_go_is_found_in_its_answer() -> None:
    assert parse_go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert parse_go_version("command not found") is None


def test_kubernetes_is_told_its_version() -> None:
    flags = linker_flags("v1.34.4")
    assert "-X k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "-X k8s.io/component-base/version.gitMinor=34" in flags


def test_progress_of_the_compiler_is_counted_in_packages_and_never_reaches_the_end(tmp_path: Path) -> None:
    build = GoBuild(Places(tmp_path, tmp_path), ("./kube",), "kubernetes")
    assert build.share() == 0
    build.log.write_text("package\n" * 1590)
    assert build.share() == pytest.approx(0.5)
    build.log.write_text("package\n" * 5000)
    assert build.share() < 1


def test_each_of_our_two_images_gets_the_names_that_kubeadm_asks_for() -> None:
    names = plan_names("registry.k8s.io/kube-proxy:v1\nregistry.k8s.io/pause:3.10\nregistry.k8s.io/etcd:3.6\n")
    assert names == {
        PAUSE: ["registry.k8s.io/pause:3.10"],
        KUBERNETES: ["registry.k8s.io/kube-proxy:v1", "registry.k8s.io/etcd:3.6"],
    }


def test_the_parts_of_a_node_that_need_no_binary_do_not_wait_for_it() -> None:
    places = current_places()
    recipe = NodeImage(places, cluster_binary(places)).tools()
    assert recipe.target == "tools"
    assert "COPY" not in recipe.dockerfile.read_text().split("FROM tools AS skeleton")[0]


def test_wheels_are_fetched_by_the_images_own_python_on_the_hosts_network() -> None:
    command = plan_wheels("python:3.13-slim", Path("/r.txt"), Path("/w"))
    assert command[:5] == ["docker", "run", "--rm", "--network", "host"]
    assert "/r.txt:/requirements.txt:ro" in command
    assert "--require-hashes" in command[-1]


def test_the_users_certificates_come_before_the_systems(tmp_path: Path) -> None:
    bundle = tmp_path / "company.crt"
    bundle.touch()
    assert certificates({"PIP_CERT": "/no/such/file", "SSL_CERT_FILE": str(bundle)}) == bundle


def test_the_version_of_the_project_is_the_tag_of_its_images() -> None:
    assert image_name("gateway", "1.2.3") == "pushcluster/gateway:1.2.3"
    assert current_places().version().count(".") == 2


def test_the_cache_lies_where_the_user_keeps_caches() -> None:
    root = Path("/checkout")
    assert Places.from_environment(root, {"XDG_CACHE_HOME": "/c"}).cache == Path("/c/pushcluster")
    assert Places.from_environment(root, {}).cache == Path.home() / ".cache" / "pushcluster"


def test_node_ports_follow_each_other_on_the_host() -> None:
    assert list(NodePorts(first=30080, host_first=18080, count=3).host_ports()) == [18080, 18081, 18082]
