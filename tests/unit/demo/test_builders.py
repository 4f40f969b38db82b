import json

import jwt
import pytest

from demo.expose import PORTS, SLOT_PORTS, build_services
from demo.install import build_overlay
from demo.narrator import Narrator
from demo.tokens import mint
from pushcluster_contract.version import VERSION

IMAGES = {part: f"pushcluster/{part}:{VERSION}" for part in ("operator", "gateway", "dispatcher", "page")}
STORES = {"redis": "redis:8-local", "rabbitmq": "rabbitmq:4.3-local"}


def test_the_overlay_names_every_image_that_the_operator_uses() -> None:
    (patch,) = build_overlay(IMAGES | STORES)["patches"]
    container = json.loads(patch["patch"])["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == IMAGES["operator"]
    assert {entry["value"] for entry in container["env"]} == {IMAGES["gateway"], IMAGES["dispatcher"], *STORES.values()}


def test_exposed_clusters_never_share_a_node_port() -> None:
    ports = [
        service["spec"]["ports"][0]["nodePort"]
        for slot in range(4)
        for service in build_services("demo", 30080 + slot * SLOT_PORTS)
    ]
    assert len(set(ports)) == len(ports) == 4 * len(PORTS)
    assert max(ports) < 30100


def test_a_demo_token_names_its_user_and_expires() -> None:
    claims = jwt.decode(mint("k" * 32, "alice"), "k" * 32, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["iat"] == 86_400


def test_the_narrator_counts_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(steps=2)
    narrator.step("First")
    narrator.say("one\ntwo")
    narrator.step("Second")
    assert capsys.readouterr().out == "\n[1/2] First\n      one\n      two\n\n[2/2] Second\n"
