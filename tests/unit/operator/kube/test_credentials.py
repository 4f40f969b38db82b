"""Secrets are made once and read back; what people wrote stays as they wrote it."""

import base64
import dataclasses
import hashlib
import hmac
import itertools

import pytest

from pushcluster_contract.tokens import HS256_KEY
from pushcluster_operator.children import build_children
from pushcluster_operator.kube.credentials import API_KEY, Credentials, hash_password
from pushcluster_operator.kube.manifest import decode_data, encode_data
from pushcluster_operator.kube.names import Names
from tests.unit.operator.objects import (
    IMAGES,
    children,
    cluster,
    credentials,
    entropy,
)

ALL = children()


def test_generated_secrets_are_read_back_as_they_are() -> None:
    names = Names.of(cluster().identity)
    live = {name.split("/")[1]: child for name, child in ALL.items() if name.startswith("Secret/")}
    assert Credentials.recover(names, live, lambda size: b"\xff" * size) == credentials()


@pytest.mark.parametrize("held", ["", "short", "with space", "\x00" * 20])
def test_a_value_that_cannot_be_used_is_made_anew(held: str) -> None:
    names = Names.of(cluster().identity)
    broken = {"demo-redis": {"data": {"password": base64.b64encode(held.encode()).decode()}}}
    assert Credentials.recover(names, broken, entropy).redis_password == credentials().redis_password


def test_a_password_with_odd_characters_is_quoted_wherever_it_stands() -> None:
    names, password = Names.of(cluster().identity), 'a/b@c:"d\\e#'
    held = {"demo-redis": {"data": {"password": base64.b64encode(password.encode()).decode()}}}
    built = {
        f"{child['kind']}/{child['metadata']['name']}": child
        for child in build_children(cluster(), Credentials.recover(names, held, entropy), IMAGES)
    }
    assert decode_data(built["Secret/demo-redis"])["auth.conf"] == 'requirepass "a/b@c:\\"d\\\\e#"\n'
    assert "a%2Fb%40c%3A%22d%5Ce%23@" in decode_data(built["Secret/demo-connections"])["redis-url"]


def test_api_keys_may_be_several_while_they_rotate() -> None:
    names = Names.of(cluster().identity)
    secret = {"data": encode_data({API_KEY: "the-old-key\nthe-new-key publish\n"})}
    recovered = Credentials.recover(names, {names.api: secret}, entropy)
    assert recovered.api_key == "the-old-key\nthe-new-key publish\n"


@pytest.mark.parametrize("data", [{}, {API_KEY: ""}, {API_KEY: "\n \n"}, {"another": "the-old-key"}])
def test_an_api_key_is_made_only_where_there_is_none(data: dict[str, str]) -> None:
    names = Names.of(cluster().identity)
    recovered = Credentials.recover(names, {names.api: {"data": encode_data(data)}}, entropy)
    assert recovered.api_key == credentials().api_key


@pytest.mark.parametrize(
    "held", [b"short", b"the-old-key\nthe-new-key publsh\n", b"# ours\nthe-old-key", b"the-old-key\nschl\xfcssel-neu"]
)
def test_api_keys_that_no_dispatcher_can_read_stay_byte_for_byte(held: bytes) -> None:
    names = Names.of(cluster().identity)
    secret = {"data": {API_KEY: base64.b64encode(held).decode()}}
    recovered = Credentials.recover(names, {names.api: secret}, entropy)
    built = build_children(cluster(), recovered, IMAGES)
    kept = next(each for each in built if (each["kind"], each["metadata"]["name"]) == ("Secret", names.api))
    assert kept["data"] == secret["data"]


@pytest.mark.parametrize(
    "held", [b"k" * 32 + b"\n", b"k" * 256, b"schl\xc3\xbcssel" * 8, b"\xff" * 32, b"k k" * 20, b"short"]
)
def test_a_key_of_tokens_that_somebody_wrote_stays_byte_for_byte(held: bytes) -> None:
    names = Names.of(cluster().identity)
    secret = {"data": {HS256_KEY: base64.b64encode(held).decode()}}
    recovered = Credentials.recover(names, {names.jwt: secret}, entropy)
    built = build_children(cluster(), recovered, IMAGES)
    kept = next(each for each in built if (each["kind"], each["metadata"]["name"]) == ("Secret", names.jwt))
    assert kept["data"] == secret["data"]


@pytest.mark.parametrize("data", [{}, {HS256_KEY: ""}, {HS256_KEY: " \n"}, {"another": "k" * 32}])
def test_a_key_of_tokens_is_made_only_where_there_is_none(data: dict[str, str]) -> None:
    names = Names.of(cluster().identity)
    recovered = Credentials.recover(names, {names.jwt: {"data": encode_data(data)}}, entropy)
    assert recovered.jwt_key == credentials().jwt_key


def test_each_value_is_made_by_itself_and_stands_in_the_secret_of_its_name() -> None:
    names = Names.of(cluster().identity)
    made = itertools.count(1)
    recovered = Credentials.recover(names, {}, lambda size: bytes([next(made)]) * size)
    values = dataclasses.astuple(recovered)
    assert len(set(values)) == len(values) == 6
    assert {len(value) for value in values} == {43}, "256 bits each"
    built = build_children(cluster(), recovered, IMAGES)
    held = {child["metadata"]["name"]: child for child in built if child["kind"] == "Secret"}
    assert Credentials.recover(names, held, lambda _: pytest.fail("every value is there")) == recovered


@pytest.mark.parametrize(
    ("secrets", "blank"),
    [
        ({"demo-rabbitmq"}, {"erlang_cookie", "rabbitmq_password", "producer_password"}),
        ({"demo-redis"}, {"redis_password"}),
        ({"demo-jwt"}, {"jwt_key"}),
        ({"demo-api"}, {"api_key"}),
        ({"demo-connections"}, {"rabbitmq_password", "redis_password"}),
        ({"demo-jwt", "demo-api"}, {"jwt_key", "api_key"}),
        ({"another"}, set()),
        (set(), set()),
    ],
)
def test_a_secret_that_is_not_stored_blanks_what_it_holds_or_passes_on(secrets: set[str], blank: set[str]) -> None:
    held = dataclasses.asdict(credentials())
    blanked = dataclasses.asdict(credentials().blank(Names.of(cluster().identity), secrets))
    assert blanked == {name: "" if name in blank else value for name, value in held.items()}


@pytest.mark.parametrize(("length", "is_kept"), [(7, False), (8, True), (255, True), (256, False)])
def test_a_password_that_somebody_wrote_is_kept_within_its_bounds(length: int, *, is_kept: bool) -> None:
    held = {"demo-redis": {"data": encode_data({"password": "p" * length})}}
    recovered = Credentials.recover(Names.of(cluster().identity), held, entropy)
    assert (recovered.redis_password == "p" * length) is is_kept


def test_a_password_has_the_form_that_rabbitmq_reads() -> None:
    """base64 of a salt of 4 bytes and of SHA-256 over salt and password."""
    raw = base64.b64decode(hash_password("secret", "user"))
    salt = hmac.digest(b"secret", b"user", "sha256")[:4]
    assert raw == salt + hashlib.sha256(salt + b"secret").digest()


def test_no_secret_shows_in_a_repr() -> None:
    made = itertools.count(1)
    recovered = Credentials.recover(Names.of(cluster().identity), {}, lambda size: bytes([next(made)]) * size)
    assert not [value for value in dataclasses.astuple(recovered) if value in repr(recovered)]
