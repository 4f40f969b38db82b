import json

import jwt
import pytest

from demo.expose import PORTS, SLOT_PORTS, build_services
from demo.images import build_pinned
from demo.install import build_overlay
from demo.narrator import Narrator
from demo.tokens import mint

IMAGES = {part: f"pushcluster/{part}:0.1.0" for part in ("operator", "gateway", "dispatcher", "page")}
STORES = {"redis": "redis:8-local", "rabbitmq": "rabbitmq:4.3-local"}
IDS = {part: f"sha256:{part:0<64}" for part in {**IMAGES, **STORES}}


def test_a_rebuilt_program_gets_another_name_and_the_stores_keep_theirs() -> None:
    first = build_pinned(IMAGES | STORES, IDS)
    second = build_pinned(IMAGES | STORES, IDS | {"gateway": "sha256:" + "1" * 64})
    assert first["gateway"] == "pushcluster/gateway:0.1.0-gateway00000"
    assert {part for part in first if first[part] != second[part]} == {"gateway"}
    assert (first["redis"], first["rabbitmq"]) == ("redis:8-local", "rabbitmq:4.3-local")


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
