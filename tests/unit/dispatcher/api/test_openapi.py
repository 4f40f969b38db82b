"""The OpenAPI document: valid, the same as the routes, and every status in it is one that is really answered."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport
from pushcluster_dispatcher.api import replies as replies_module
from pushcluster_dispatcher.api import requests, routes
from pushcluster_dispatcher.api.openapi import build_document
from tests.unit.dispatcher.api.bench import KEY, PATH, PUBLISH_KEY, READ_KEY, SID, Bench, bearer, problem

DOCUMENT: Final = build_document()
Case = Callable[[Bench, pytest.MonkeyPatch], Awaitable[aiohttp.ClientResponse]]

BATCH: Final = "/v1/messages:batch"
SESSIONS: Final = "/v1/users/alice/sessions"
SESSION: Final = f"/v1/users/alice/sessions/{SID}"
ROUTE: Final = "/v1/users/alice/route?destination=/queue/demo"
USER: Final = "/v1/users/alice"
LONG_USER: Final = f"/v1/users/{'x' * 256}"
MESSAGE: Final = {"user": "alice", "destination": "/queue/demo", "body": "x"}
JSON: Final = {"Content-Type": "application/json"}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_the_document_is_served_without_a_key(bench: Bench) -> None:
    response = await bench.client.get("/openapi.json")
    assert (response.status, await response.json()) == (200, DOCUMENT)


def test_routes_and_document_are_the_same(bench: Bench) -> None:
    served = {
        (route.method, route.resource.canonical): route
        for route in bench.app.router.routes()
        if route.resource is not None
        if route.method != "HEAD"  # goes with GET (RFC 9110, section 9.1)
    }
    assert set(served) == {(method, path) for method, path, _ in operations()}


def test_what_needs_no_key_says_so(bench: Bench) -> None:
    assert [path for _, path, operation in operations() if operation.get("security") == []] == ["/openapi.json"]


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p, _ in operations() if p.startswith("/v1")])
async def test_an_undocumented_query_parameter_is_refused_and_the_answer_names_the_documented_ones(
    bench: Bench, method: str, path: str
) -> None:
    operation = DOCUMENT["paths"][path][method.lower()]
    names = sorted(each["name"] for each in operation.get("parameters", []) if each["in"] == "query")
    url = path.replace("{user}", "alice").replace("{session}", SID) + "?destinaton=x"
    response = await bench.client.request(method, url, headers={**bearer(), **JSON}, data=b"{}")
    assert response.status == 400
    may = f"may have {', '.join(names)}" if names else "has none"
    assert await problem(response) == f"the query has no parameter 'destinaton'; it {may}"


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def call(method: str, path: str, key: str = KEY, **options: Any) -> Case:
    async def run(bench: Bench, _: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        headers = {**(bearer(key) if key else {}), **options.pop("headers", {})}
        return await bench.client.request(method, path, headers=headers, **options)

    return run


def down(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        bench.down()
        return await case(bench, monkeypatch)

    return run


def faulty(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        bench.broker.error = bench.users.error = RuntimeError("a bug")
        return await case(bench, monkeypatch)

    return run


def answered(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        bench.broker.reports = [OutcomeReport(MessageOutcome.ACKED, session=SID, gateway="g", sessions=(SID,))]
        return await case(bench, monkeypatch)

    return run


def taken(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        bench.broker.reports = [OutcomeReport(MessageOutcome.REJECTED, reason="another", cause="message_id")]
        return await case(bench, monkeypatch)

    return run


def slow(path: str, **headers: str) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        async def never() -> Any:
            yield b"{"
            await asyncio.sleep(60)

        monkeypatch.setattr(requests, "BODY_TIMEOUT_S", 0.05)
        return await bench.post(path, never(), **headers)

    return run


def crowded(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        monkeypatch.setattr(replies_module, "MAX_WAITING", 0)
        monkeypatch.setattr(routes, "MAX_BATCHES", 0)
        return await case(bench, monkeypatch)

    return run


def broken_batch(case: Case) -> Case:
    async def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> aiohttp.ClientResponse:
        bench.broker.errors_by_user["alice"] = Unavailable("full")
        return await case(bench, monkeypatch)

    return run


GOOD_BATCH: Final = json.dumps({"messages": [MESSAGE]})
CASES: Final[dict[tuple[str, str], dict[str, Case]]] = {
    ("GET", "/openapi.json"): {"200": call("GET", "/openapi.json", key="")},
    ("POST", "/v1/users/{user}/messages"): {
        "200": answered(call("POST", f"{PATH}&wait=30000", data=b"x")),
        "202": call("POST", PATH, data=b"x"),
        "400": call("POST", f"{PATH}&expiration=soon", data=b"x"),
        "401": call("POST", PATH, key="", data=b"x"),
        "403": call("POST", PATH, key=READ_KEY, data=b"x"),
        "408": slow(PATH),
        "409": taken(call("POST", f"{PATH}&wait=30000", data=b"x")),
        "413": call("POST", PATH, data=b"x" * (MAX_BODY_BYTES + 1)),
        "415": call("POST", PATH, data=b"x", headers={"Content-Encoding": "deflate"}),
        "429": crowded(call("POST", f"{PATH}&wait=50", data=b"x")),
        "500": faulty(call("POST", PATH, data=b"x")),
        "503": down(call("POST", PATH, data=b"x")),
    },
    ("POST", BATCH): {
        "202": call("POST", BATCH, data=GOOD_BATCH, headers=JSON),
        "207": broken_batch(call("POST", BATCH, data=GOOD_BATCH, headers=JSON)),
        "400": call("POST", BATCH, data=b"[]", headers=JSON),
        "401": call("POST", BATCH, key="", data=GOOD_BATCH, headers=JSON),
        "403": call("POST", BATCH, key=READ_KEY, data=GOOD_BATCH, headers=JSON),
        "408": slow(BATCH, **JSON),
        "413": call("POST", BATCH, headers={**JSON, "Content-Length": "1048577"}, data=b""),
        "415": call("POST", BATCH, data=GOOD_BATCH),
        "429": crowded(call("POST", BATCH, data=GOOD_BATCH, headers=JSON)),
        "500": faulty(call("POST", BATCH, data=GOOD_BATCH, headers=JSON)),
    },
    ("GET", "/v1/users/{user}/sessions"): {
        "200": call("GET", SESSIONS),
        "400": call("GET", f"{LONG_USER}/sessions"),
        "401": call("GET", SESSIONS, key=""),
        "403": call("GET", SESSIONS, key=PUBLISH_KEY),
        "500": faulty(call("GET", SESSIONS)),
        "503": down(call("GET", SESSIONS)),
    },
    ("DELETE", "/v1/users/{user}/sessions/{session}"): {
        "202": call("DELETE", SESSION),
        "400": call("DELETE", f"{SESSIONS}/no-session-id"),
        "401": call("DELETE", SESSION, key=""),
        "403": call("DELETE", SESSION, key=READ_KEY),
        "404": call("DELETE", f"{SESSIONS}/{'c' * 26}"),
        "500": faulty(call("DELETE", SESSION)),
        "503": down(call("DELETE", SESSION)),
    },
    ("GET", "/v1/users/{user}/route"): {
        "200": call("GET", ROUTE),
        "400": call("GET", "/v1/users/alice/route"),
        "401": call("GET", ROUTE, key=""),
        "403": call("GET", ROUTE, key=PUBLISH_KEY),
        "500": faulty(call("GET", ROUTE)),
        "503": down(call("GET", ROUTE)),
    },
    ("DELETE", "/v1/users/{user}"): {
        "200": call("DELETE", USER),
        "400": call("DELETE", LONG_USER),
        "401": call("DELETE", USER, key=""),
        "403": call("DELETE", USER, key=READ_KEY),
        "500": faulty(call("DELETE", USER)),
        "503": down(call("DELETE", USER)),
    },
}
DOCUMENTED: Final = [(method, path, status) for method, path, op in operations() for status in op["responses"]]


def test_every_case_is_documented() -> None:
    cases = {(*operation, status) for operation, statuses in CASES.items() for status in statuses}
    assert cases <= set(DOCUMENTED)


@pytest.mark.parametrize(("method", "path", "status"), DOCUMENTED)
async def test_every_documented_status_is_answered_in_the_documented_form(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: str
) -> None:
    response = await CASES[method, path][status](bench, monkeypatch)
    assert str(response.status) == status
    content = DOCUMENT["paths"][path][method.lower()]["responses"][status]["content"]
    pointer = "/".join(
        part.replace("~", "~0").replace("/", "~1")
        for part in ("paths", path, method.lower(), "responses", status, "content", response.content_type, "schema")
    )
    assert response.content_type in content
    registry: Registry[Any] = Registry().with_resource(
        "urn:api", Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **DOCUMENT})
    )
    Draft202012Validator({"$ref": f"urn:api#/{pointer}"}, registry=registry).validate(
        await response.json(content_type=None)
    )
