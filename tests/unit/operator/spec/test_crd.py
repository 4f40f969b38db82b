"""The CRD's schema and PushClusterSpec say the same: fields, defaults, enums, bounds."""

import copy
import dataclasses
import functools
import json
import operator
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import jsonschema
import pytest

from pushcluster_contract import env
from pushcluster_gateway.auth.settings import AuthSettings
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec.model import PushClusterSpec
from pushcluster_runtime.settings import EnvironmentVariables
from tests.unit.operator.objects import body
from tests.unit.operator.schema import LEAVES, ROOT, SPEC, VERSION, Path_


def nodes(schema: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, (*path, name))
    if "items" in schema:
        yield from nodes(schema["items"], (*path, "[]"))


RULE_OF_FORM = re.compile(r"self\.matches\(r'(.+)'\)")


def pattern(schema: dict[str, Any]) -> str | None:
    """Return what the text of a field must match: as a rule where the pattern alone would tell a person too little."""
    rules = (RULE_OF_FORM.fullmatch(rule["rule"]) for rule in schema.get("x-kubernetes-validations", []))
    return schema.get("pattern") or next((rule[1] for rule in rules if rule), None)


def takes(schema: dict[str, Any], text: str) -> bool:
    """Tell whether a field's schema takes a text, by its length and form; sizes are left to other rules."""
    known = {"type": "string", **{name: value for name, value in schema.items() if name in {"minLength", "maxLength"}}}
    return jsonschema.Draft202012Validator({**known, "pattern": pattern(schema)}).is_valid(text)


FIELD_OF: dict[Path_, str] = {
    ("routing", "mode"): "routing_mode",
    ("gateway", "replicas"): "gateway.replicas",
    ("gateway", "maxConnections"): "gateway.max_connections",
    ("gateway", "maxSessionsPerUser"): "gateway.max_sessions_per_user",
    ("gateway", "handshakesPerSecond"): "gateway.handshakes_per_second",
    ("gateway", "drain", "seconds"): "gateway.drain_seconds",
    ("gateway", "auth", "mode"): "gateway.auth.mode",
    ("gateway", "auth", "secretRef", "name"): "gateway.auth.secret_name",
    ("gateway", "auth", "algorithm"): "gateway.auth.algorithm",
    ("gateway", "auth", "jwks", "url"): "gateway.auth.jwks.url",
    ("gateway", "auth", "jwks", "secretRef", "name"): "gateway.auth.jwks.secret.name",
    ("gateway", "auth", "jwks", "secretRef", "key"): "gateway.auth.jwks.secret.key",
    ("gateway", "auth", "jwks", "caSecretRef", "name"): "gateway.auth.jwks.ca_secret.name",
    ("gateway", "auth", "jwks", "caSecretRef", "key"): "gateway.auth.jwks.ca_secret.key",
    ("gateway", "auth", "jwks", "allowHttp"): "gateway.auth.jwks.allow_http",
    ("gateway", "auth", "jwks", "refreshSeconds"): "gateway.auth.jwks.refresh_seconds",
    ("gateway", "auth", "issuer"): "gateway.auth.issuer",
    ("gateway", "auth", "audiences"): "gateway.auth.audiences",
    ("gateway", "auth", "userClaim"): "gateway.auth.user_claim",
    ("gateway", "auth", "requireExpiry"): "gateway.auth.require_expiry",
    ("gateway", "allowedOrigins"): "gateway.allowed_origins",
    ("gateway", "image"): "gateway.image",
    ("gateway", "resources", "requests", "cpu"): "gateway.resources.cpu_request",
    ("gateway", "resources", "requests", "memory"): "gateway.resources.memory_request",
    ("gateway", "resources", "limits", "cpu"): "gateway.resources.cpu_limit",
    ("gateway", "resources", "limits", "memory"): "gateway.resources.memory_limit",
    ("dispatcher", "replicas"): "dispatcher.replicas",
    ("dispatcher", "api", "enabled"): "dispatcher.api_enabled",
    ("dispatcher", "image"): "dispatcher.image",
    ("dispatcher", "resources", "requests", "cpu"): "dispatcher.resources.cpu_request",
    ("dispatcher", "resources", "requests", "memory"): "dispatcher.resources.memory_request",
    ("dispatcher", "resources", "limits", "cpu"): "dispatcher.resources.cpu_limit",
    ("dispatcher", "resources", "limits", "memory"): "dispatcher.resources.memory_limit",
    ("rabbitmq", "managed", "replicas"): "rabbitmq.replicas",
    ("rabbitmq", "managed", "storage"): "rabbitmq.storage",
    ("rabbitmq", "managed", "memory"): "rabbitmq.memory",
    ("rabbitmq", "managed", "image"): "rabbitmq.image",
    ("redis", "managed", "storage"): "redis.storage",
    ("redis", "managed", "maxMemory"): "redis.max_memory",
    ("redis", "managed", "image"): "redis.image",
    ("delivery", "offline", "ttlSeconds"): "delivery.offline_ttl_seconds",
    ("delivery", "offline", "maxPerDestination"): "delivery.offline_max_per_destination",
    ("delivery", "resume", "windowSeconds"): "delivery.resume_window_seconds",
    ("delivery", "idempotency", "windowSeconds"): "delivery.idempotency_window_seconds",
    ("deletionPolicy",): "deletion_policy",
}


JWKS = ("gateway", "auth", "jwks")
COMPANIONS: dict[Path_, dict[str, Any]] = {
    ("gateway", "auth", "algorithm"): {"jwks": {"url": "https://issuer.example/keys"}},
    (*JWKS, "url"): {"algorithm": "RS256"},
    (*JWKS, "secretRef", "name"): {"algorithm": "RS256", "jwks": {"secretRef": {"key": "k"}}},
    (*JWKS, "secretRef", "key"): {"algorithm": "RS256", "jwks": {"secretRef": {"name": "n"}}},
    (*JWKS, "caSecretRef", "name"): {
        "algorithm": "RS256", "jwks": {"url": "https://issuer.example/keys", "caSecretRef": {"key": "k"}},
    },
    (*JWKS, "caSecretRef", "key"): {
        "algorithm": "RS256", "jwks": {"url": "https://issuer.example/keys", "caSecretRef": {"name": "n"}},
    },
}  # fmt: skip
"""What else has to stand in `gateway.auth` for a field to have a meaning, if it has none by itself."""


def with_value(path: Path_, value: Any) -> dict[str, Any]:
    """Return a spec that says only this."""
    spec: Any = value
    for name in reversed(path):
        spec = {name: spec}
    return dict(spec)


def merged(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    return {**other, **{name: merged(value, other.get(name, {})) for name, value in one.items()}}


def read(spec: dict[str, Any], path: Path_) -> Any:
    """Return what the field is in this spec; with its companions when it makes no sense alone."""
    try:
        value: Any = PushClusterSpec.from_body(body(spec))
    except InvalidSpec:
        if path not in COMPANIONS:
            raise
        value = PushClusterSpec.from_body(body(merged(spec, {"gateway": {"auth": COMPANIONS[path]}})))
    for name in FIELD_OF[path].split("."):
        value = None if value is None else getattr(value, name)
    return value


def flat(value: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(inner):
            yield from flat(inner, f"{name}.")
        else:
            yield name


def test_every_field_of_the_schema_is_read_and_every_field_read_is_in_the_schema() -> None:
    assert set(LEAVES) == set(FIELD_OF)
    names: set[str] = set()
    for companion in COMPANIONS.values():
        whole = {"secretRef": {"name": "n", "key": "k"}, "caSecretRef": {"name": "n", "key": "k"}}
        jwks = {name: whole.get(name, value) for name, value in companion.get("jwks", {"url": "https://i/"}).items()}
        auth = {"algorithm": "RS256", "jwks": jwks}
        names |= set(flat(PushClusterSpec.from_body(body({"gateway": {"auth": auth}}))))
    assert {name for name in names if not any(f"{name}." in other for other in names)} == set(FIELD_OF.values())


@pytest.mark.parametrize("path", [p for p, s in nodes(SPEC) if s.get("type") == "object"], ids=".".join)
def test_a_field_that_the_schema_does_not_have_is_refused_wherever_it_stands(path: Path_) -> None:
    fields = functools.reduce(lambda schema, name: schema["properties"][name], path, SPEC)["properties"]
    reference = {name: "n" for name in fields if set(fields) <= {"name", "key"}}
    place = ".".join(("spec", *path, "stranger"))
    with pytest.raises(InvalidSpec, match=f"^{re.escape(place)} is not a field of PushCluster"):
        PushClusterSpec.from_body(body(with_value(path, {**reference, "stranger": 1})))


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_the_defaults_are_the_same(path: Path_) -> None:
    default = LEAVES[path].get("default")
    value = read({}, path)
    assert (list(value) if isinstance(value, tuple) else value) == default


@pytest.mark.parametrize("path", [p for p, s in LEAVES.items() if "enum" in s], ids=".".join)
def test_the_choices_are_the_same(path: Path_) -> None:
    choices = LEAVES[path]["enum"]
    assert [str(read(with_value(path, choice), path)) for choice in choices] == choices
    value = read({}, path)
    assert isinstance(value, StrEnum)
    assert {str(member) for member in type(value)} == set(choices)


@pytest.mark.parametrize(
    "path", [p for p, s in LEAVES.items() if s["type" if "type" in s else "anyOf"] == "integer"], ids=".".join
)
def test_the_bounds_of_numbers_are_the_same(path: Path_) -> None:
    low, high = LEAVES[path]["minimum"], LEAVES[path]["maximum"]

    def parses(value: int) -> bool:
        try:
            return bool(read(with_value(path, value), path) == value)
        except InvalidSpec as error:
            # Rules between fields are tested by themselves; they leave one of the two bounds out of reach.
            return "nothing is kept longer" in str(error)

    assert parses(low)
    assert parses(high)
    assert not parses(low - 1)
    assert not parses(high + 1)


@pytest.mark.parametrize(
    "path", [p for p, s in LEAVES.items() if s.get("type") == "string" and pattern(s)], ids=".".join
)
@pytest.mark.parametrize(
    "text", ["a", "demo", "A.b", "", "a b", "-a", "1Gi", "300Mi", "0", "1.5Gi", "1e3", "x" * 600, "ä"]
)
def test_texts_are_accepted_by_both_or_by_neither(path: Path_, text: str) -> None:
    by_schema = takes(LEAVES[path], text)
    try:
        read(with_value(path, text), path)
        by_spec = True
    except InvalidSpec as error:
        # What the schema leaves to CEL is a rule about sizes.
        by_spec = "must be at least" in str(error)
    assert by_schema == by_spec


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example",
        "http://[::1]:8080",
        "HTTPS://a.example",
        "https://A.example:443",
        "https://a.example:0",
        "https://a.example:1:2",
        "https://[a",
        "https://a.",
        "https://",
        "a.example",
        "https://a/b",
        "https://a b",
        "https://u@a",
        "null",
        "*",
    ],
)
def test_origins_are_accepted_by_both_or_by_neither(origin: str) -> None:
    path = ("gateway", "allowedOrigins")
    by_schema = takes(LEAVES[path]["items"], origin)
    try:
        read(with_value(path, [origin]), path)
    except InvalidSpec:
        assert not by_schema
    else:
        assert by_schema


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://i", True),
        ("https://issuer_1.example.:8443/keys?a=b", True),
        ("https://[2001:db8::1]:443/", True),
        ("http://localhost", True),
        ("http://127.0.0.1:80", True),
        ("https://[/", False),
        ("https://[", False),
        ("https://i]/", False),
        ("https://i:99999/", False),
        ("https://i:0/", False),
        ("https://i:/", False),
        ("https://:443/", False),
        ("https://[:::::]/", False),
        ("http://127.0.0.1:80.evil.com/", False),
        ("http://localhost:evil.com/", False),
        ("http://localhost.evil.com/", False),
        ("http://issuer.example/", False),
    ],
)
def test_no_address_of_an_issuer_passes_the_operator_and_stops_the_gateways(url: str, is_good: bool) -> None:
    path = (*JWKS, "url")
    by_schema = takes(LEAVES[path], url)
    if not is_good:
        with pytest.raises(InvalidSpec, match=r"jwks\.url must"):
            read(with_value(path, url), path)
        return
    assert by_schema
    assert read(with_value(path, url), path) == url
    environment = EnvironmentVariables({env.JWT_ALGORITHM: "RS256", env.JWKS_URL: url})
    assert AuthSettings.parse(environment).jwks_url == url


def test_an_empty_spec_and_none_at_all_get_every_default_from_the_api_server() -> None:
    def filled(schema: dict[str, Any], value: Any) -> Any:
        """Default as the API server does: from the outside to the inside."""
        value = copy.deepcopy(schema.get("default")) if value is None else value
        if isinstance(value, dict):
            for name, child in schema.get("properties", {}).items():
                if (inner := filled(child, value.get(name))) is not None:
                    value[name] = inner
        return value

    whole = filled(ROOT, {"metadata": {"name": "demo"}})["spec"]
    assert PushClusterSpec.from_body({"spec": whole}) == PushClusterSpec.from_body({})
    for path, schema in LEAVES.items():
        if "default" in schema:
            assert functools.reduce(operator.getitem, path, whole) == schema["default"]


def test_every_field_is_described() -> None:
    undescribed = [".".join(path) for path, schema in nodes(ROOT) if "description" not in schema]
    # An item speaks through its list; metadata is the API server's.
    assert undescribed == ["metadata", "spec.gateway.auth.audiences.[]", "spec.gateway.allowedOrigins.[]"]


def test_every_default_stands_in_the_description_where_kubectl_explain_shows_it() -> None:
    for path, schema in LEAVES.items():
        if "default" in schema:
            default = "empty" if schema["default"] == [] else json.dumps(schema["default"]).strip('"')
            assert re.search(rf"Default: {re.escape(default)}(\.| \()", schema["description"]), path


def test_every_rule_says_in_words_what_is_wrong() -> None:
    rules = [rule for _, schema in nodes(ROOT) for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) >= 9
    for rule in rules:
        assert len(rule["message"].split()) >= 5


def test_strings_and_lists_are_bounded_so_that_rules_have_a_price() -> None:
    for path, schema in nodes(SPEC):
        if schema.get("type") == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path


def test_columns_and_the_scale_subresource_point_at_fields_that_exist() -> None:
    def exists(json_path: str) -> bool:
        schema = ROOT
        for name in json_path.partition("[")[0].strip(".").split("."):
            schema = schema.get("properties", {}).get(name, {})
        return bool(schema)

    columns = {column["name"]: column for column in VERSION["additionalPrinterColumns"]}
    assert [name for name, column in columns.items() if not column.get("priority")] == [
        "Ready",
        "Mode",
        "Gateways",
        "Sessions",
        "Age",
    ]
    for column in columns.values():
        assert exists(column["jsonPath"]) or column["jsonPath"].startswith(".metadata"), column
    assert all(exists(path) for path in VERSION["subresources"]["scale"].values())


def test_the_refusal_of_a_short_ttl_names_the_default_of_the_window_that_nobody_wrote() -> None:
    delivery = SPEC["properties"]["delivery"]
    default = delivery["properties"]["resume"]["properties"]["windowSeconds"]["default"]
    assert f"default is {default}, so set it too" in delivery["x-kubernetes-validations"][0]["message"]
