"""The children, object by object, as `golden/<spec>/<component>.yaml` shows them.

A change of an object shows in a review as a change of these files. Write them anew with
`pytest tests/unit/operator/children/test_golden.py --rewrite-golden`, and read the difference before you commit it.
A new `config-checksum` means that the component's pods are rolled when the operator is upgraded.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pushcluster_operator.children import Credentials, build_children
from pushcluster_operator.kube.manifest import Manifest
from tests.unit.operator.every_field import SPECS
from tests.unit.operator.objects import IMAGES, cluster

GOLDEN: Final = Path(__file__).with_name("golden")
SHOWN: Final[dict[str, dict[str, Any]]] = {"defaults": {}, "every-field": SPECS["issuer"]}
SECRETS: Final = Credentials(
    erlang_cookie="the cookie",
    rabbitmq_password="the broker's password: @/",
    producer_password="the producer's password: @/",
    redis_password='the password of "Redis": @/\\',
    jwt_key="the key of tokens",
    api_key="the-key-of-the-api",
)


class Dumper(yaml.SafeDumper):
    """Writes what a person wants to read: no anchors, and texts of several lines as they are."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, represent_text)


def components(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each component with its objects as YAML, in the order in which they are applied."""
    objects: dict[str, list[Manifest]] = {}
    for child in build_children(cluster(spec), SECRETS, IMAGES):
        component = child["metadata"]["labels"]["pushcluster.dev/component"]
        objects.setdefault(component, []).append(readable(child))
    for component, all_ in objects.items():
        yield component, yaml.dump_all(all_, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def readable(child: Manifest) -> Manifest:
    """Return a Secret with its texts instead of their base64."""
    if child["kind"] != "Secret":
        return child
    texts = {key: base64.b64decode(value, validate=True).decode() for key, value in child["data"].items()}
    return {**child, "data": texts}


@pytest.mark.parametrize("name", SHOWN)
def test_the_children_are_as_the_golden_files_show_them(name: str, request: pytest.FixtureRequest) -> None:
    folder = GOLDEN / name
    built = dict(components(SHOWN[name]))
    if request.config.getoption("--rewrite-golden"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.yaml"):
            path.unlink()
        for component, text in built.items():
            (folder / f"{component}.yaml").write_text(text, encoding="utf-8")
    golden = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    assert built == golden


def test_every_golden_file_belongs_to_a_spec() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == SHOWN.keys()


def test_objects_are_applied_after_what_their_pods_read_and_the_stores_before_their_users() -> None:
    kinds = [(child["kind"], child["metadata"]["name"]) for child in build_children(cluster(), SECRETS, IMAGES)]
    place = {kind: at for at, kind in enumerate(kinds)}
    workloads = [each for each in kinds if each[0] in {"Deployment", "StatefulSet"}]
    assert [name for _, name in workloads] == ["demo-rabbitmq", "demo-redis", "demo-gateway", "demo-dispatcher"]
    for kind, name in workloads:
        for before in (("Secret", name), ("ConfigMap", name), ("ServiceAccount", name)):
            assert place.get(before, -1) < place[kind, name]
    for secret in ("demo-connections", "demo-jwt", "demo-api"):
        assert place["Secret", secret] < place["Deployment", "demo-gateway"]
