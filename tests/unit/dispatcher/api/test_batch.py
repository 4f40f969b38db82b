"""POST /v1/messages:batch."""

import asyncio
import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given as with_any
from hypothesis import strategies as st

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.limits import MAX_BODY_BYTES, MAX_NAME_CHARS, MAX_USER_BYTES
from pushcluster_dispatcher.api.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, MAX_BATCH_OBJECTS, parse_batch
from pushcluster_dispatcher.api.publication import MAX_CONTENT_TYPE_BYTES, Publication
from pushcluster_dispatcher.api.requests import MAX_WAIT_MS
from pushcluster_dispatcher.api.routes import BATCH_WINDOW, MAX_BATCHES
from tests.support.waiting import eventually
from tests.unit.dispatcher.api.bench import Bench, problem

PLAIN = {"user": "alice", "destination": "/queue/demo", "body": "x"}


def message(user: str = "alice", body: str = "x", **fields: object) -> dict[str, object]:
    return {"user": user, "destination": "/queue/demo", "body": body, **fields}


async def test_a_batch_is_published_message_by_message(bench: Bench) -> None:
    response = await bench.batch(
        message(body="höllo", contentType="text/plain", messageId="m1", expiration=1_500, headers={"x-kind": 7}),
        {"user": "bøb/1", "destination": "/topic/t", "bodyBase64": base64.b64encode(b"\x00\xff").decode()},
    )
    assert response.status == 202
    assert await response.json() == {
        "accepted": 2,
        "results": [
            {"status": 202, "user": "alice", "destination": "/queue/demo", "messageId": "m1"},
            {"status": 202, "user": "bøb/1", "destination": "/topic/t", "messageId": "made-up"},
        ],
    }
    (_, first, properties), (user, second, others) = bench.broker.published
    assert (first, user, second) == ("höllo".encode(), "bøb/1", b"\x00\xff")
    assert (properties.content_type, properties.message_id, properties.expiration) == ("text/plain", "m1", "1500")
    assert properties.headers == {"destination": "/queue/demo", "x-kind": "7"}
    assert others.headers == {"destination": "/topic/t"}


async def test_a_wrong_message_of_a_batch_gets_its_own_reason_and_the_others_are_published(bench: Bench) -> None:
    bench.broker.errors_by_user["bob"] = Unavailable("the ingress queue is full")
    response = await bench.batch(message(), message(destination="/queue/a.b"), message("bob", messageId="m"), 7)
    assert response.status == 207
    document = await response.json()
    assert document["accepted"] == 1
    accepted, wrong, full, no_object = document["results"]
    assert accepted["status"] == 202
    assert (wrong["status"], "/queue/<name>" in wrong["detail"]) == (400, True)
    assert full == {
        "status": 503,
        "user": "bob",
        "destination": "/queue/demo",
        "messageId": "m",
        "detail": "the ingress queue is full",
    }
    assert no_object["status"] == 400
    assert [user for user, _, _ in bench.broker.published] == ["alice"]


async def test_the_largest_batch_keeps_its_order(bench: Bench) -> None:
    response = await bench.batch(*(message(body=str(n)) for n in range(MAX_BATCH_MESSAGES)))
    assert response.status == 202
    assert [int(body) for _, body, _ in bench.broker.published] == list(range(MAX_BATCH_MESSAGES))


async def test_one_message_more_is_refused(bench: Bench) -> None:
    response = await bench.batch(*[message()] * (MAX_BATCH_MESSAGES + 1))
    assert response.status == 400
    assert "1 to 500" in await problem(response)
    assert bench.broker.published == []


async def test_a_batch_refuses_to_wait_one_millisecond_too_long(bench: Bench) -> None:
    response = await bench.batch(message(), query=f"?wait={MAX_WAIT_MS + 1}")
    assert response.status == 400
    assert f"from 1 to {MAX_WAIT_MS}" in await problem(response)
    assert bench.broker.published == []


async def test_one_byte_more_is_refused(bench: Bench) -> None:
    document = json.dumps({"messages": [PLAIN]}).encode().ljust(MAX_BATCH_BYTES)
    json_header = {"Content-Type": "application/json"}
    assert (await bench.post("/v1/messages:batch", io.BytesIO(document), **json_header)).status == 202
    assert (await bench.post("/v1/messages:batch", io.BytesIO(document + b" "), **json_header)).status == 413


async def test_a_batch_without_the_content_type_of_json_is_refused(bench: Bench) -> None:
    response = await bench.post("/v1/messages:batch", b"{}", **{"Content-Type": "text/plain"})
    assert response.status == 415
    await problem(response)


async def test_one_batch_more_than_allowed_at_the_same_time_is_refused(bench: Bench) -> None:
    bench.broker.held = asyncio.Event()
    posting = [asyncio.create_task(bench.batch(message())) for _ in range(MAX_BATCHES)]
    await eventually(lambda: len(bench.broker.published) == MAX_BATCHES, within_s=5)
    async with asyncio.timeout(5):
        refused = await bench.batch(message())
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "1"
    await problem(refused)
    bench.broker.held.set()
    assert {response.status for response in await asyncio.gather(*posting)} == {202}
    assert (await bench.batch(message())).status == 202


async def test_only_so_many_messages_of_a_batch_wait_for_their_confirm_at_once(bench: Bench) -> None:
    bench.broker.held = asyncio.Event()
    posting = asyncio.create_task(bench.batch(*[message()] * (BATCH_WINDOW + 1)))
    await eventually(lambda: len(bench.broker.published) >= BATCH_WINDOW, within_s=5)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(bench.broker.published) == BATCH_WINDOW
    bench.broker.held.set()
    assert (await posting).status == 202
    assert len(bench.broker.published) == BATCH_WINDOW + 1


def parse_one(fields: object) -> Publication | InvalidInput:
    (parsed,) = parse_batch(json.dumps({"messages": [fields]}).encode(), lambda: "made-up")
    return parsed


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"destination": "/queue/demo", "body": "x"}, "'user' is missing"),
        ({"user": "alice", "body": "x"}, "'destination' is missing"),
        ({"user": "alice", "destination": "/queue/demo"}, "either 'body'"),
        ({**PLAIN, "bodyBase64": "eA=="}, "either 'body'"),
        ({**PLAIN, "user": ""}, "0 bytes"),
        ({**PLAIN, "user": 7}, "'user' is not a text"),
        ({**PLAIN, "user": "\ud800"}, "Unicode"),
        ({**PLAIN, "body": "\ud800"}, "Unicode"),
        ({**PLAIN, "body": {"a": 1}}, "'body' is not a text"),
        ({**PLAIN, "body": "x" * (MAX_BODY_BYTES + 1)}, "65537 bytes"),
        ({**PLAIN, "bodybase64": "eA=="}, "unknown field 'bodybase64'"),
        ({"user": "alice", "destination": "/queue/demo", "bodyBase64": "e*=="}, "base64"),
        ({"user": "alice", "destination": "/queue/demo", "bodyBase64": "ä"}, "base64"),
        ({**PLAIN, "contentType": "a\nb"}, "content type"),
        ({**PLAIN, "contentType": "t" * (MAX_CONTENT_TYPE_BYTES + 1)}, "longer than 255 bytes"),
        ({**PLAIN, "destination": "/queue/" + "x" * (MAX_NAME_CHARS + 1)}, "1 to 64"),
        ({**PLAIN, "user": "u" * (MAX_USER_BYTES + 1)}, "256 bytes"),
        ({**PLAIN, "messageId": "k" * 256}, "message id"),
        ({**PLAIN, "messageId": ""}, "message id"),
        ({**PLAIN, "expiration": "5"}, "milliseconds"),
        ({**PLAIN, "expiration": True}, "milliseconds"),
        ({**PLAIN, "expiration": 1.5}, "milliseconds"),
        ({**PLAIN, "expiration": -1}, "milliseconds"),
        ({**PLAIN, "expiration": 10**16}, "at most 9999999999999999"),
        ({**PLAIN, "headers": []}, "'headers'"),
        ({**PLAIN, "headers": {"kind": "a"}}, "only x-"),
        ({**PLAIN, "headers": {"x-kind": {}}}, "neither text"),
        ({**PLAIN, "headers": {"x-kind": "\ud800"}}, "Unicode"),
        ({**PLAIN, "headers": {"x-a": "a\0b"}}, "'x-a' is not printable"),
        ({**PLAIN, "headers": {"x-a": "a\nb"}}, "'x-a' is not printable"),
        ({**PLAIN, "headers": {"traceparent": "a\tb"}}, "'traceparent' is not printable"),
        ({**PLAIN, "headers": {"x-a\nb": "c"}}, "not printable"),
        ({**PLAIN, "headers": {"x-\ud800": "c"}}, "not printable"),
        ({**PLAIN, "headers": {f"x-{n}": "" for n in range(33)}}, "33 forwarded"),
        (None, "JSON object"),
    ],
)
def test_a_wrong_message_is_told_what_is_wrong(fields: object, reason: str) -> None:
    parsed = parse_one(fields)
    assert isinstance(parsed, InvalidInput)
    assert reason in str(parsed)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ('{"user":"alice","user":"bob","destination":"/queue/demo","body":"x"}', "user"),
        ('{"user":"alice","us\\u0065r":"alice","destination":"/queue/demo","body":"x"}', "user"),
        ('{"user":"alice","destination":"/queue/demo","body":"x","headers":{"x-a":"1","x-a":"2"}}', "x-a"),
        ('{"user":"alice","destination":"/queue/demo","body":{"a":1,"a":2}}', "a"),
    ],
)
def test_a_field_that_is_there_twice_is_refused_and_the_other_messages_are_taken(item: str, name: str) -> None:
    document = f'{{"messages":[{item},{json.dumps(PLAIN)}]}}'
    refused, taken = parse_batch(document.encode(), lambda: "made-up")
    assert isinstance(refused, InvalidInput)
    assert str(refused) == f"field {name!r} is there more than once"
    assert isinstance(taken, Publication)


def test_a_batch_with_two_lists_of_messages_is_refused_as_a_whole() -> None:
    one = json.dumps([PLAIN])
    with pytest.raises(InvalidInput, match="'messages' is there more than once"):
        parse_batch(f'{{"messages":{one},"messages":{one}}}'.encode(), lambda: "made-up")


def test_one_json_object_more_than_a_batch_may_have_is_refused_before_the_rest_is_read() -> None:
    def nested(objects: int) -> bytes:
        return b'{"messages":[[%b]]}' % b",".join([b"{}"] * (objects - 1))

    assert len(parse_batch(nested(MAX_BATCH_OBJECTS), lambda: "made-up")) == 1
    with pytest.raises(InvalidInput, match="JSON objects"):
        parse_batch(nested(MAX_BATCH_OBJECTS + 1), lambda: "made-up")


def test_each_field_of_a_message_reaches_the_publication() -> None:
    fields = {
        "user": "bøb",
        "destination": "/topic/t",
        "bodyBase64": "AP8=",
        "contentType": "a/b",
        "messageId": "m",
        "expiration": 1_500,
        "headers": {"x-a": "b", "traceparent": "00-1"},
    }
    headers = {"x-a": "b", "traceparent": "00-1"}
    assert parse_one(fields) == Publication("bøb", Destination("topic", "t"), b"\0\xff", "m", "a/b", 1_500, headers)


def test_what_a_message_leaves_out_has_a_default() -> None:
    bare = {"user": "alice", "destination": "/queue/demo", "body": "ä"}
    expected = Publication("alice", Destination("queue", "demo"), "ä".encode(), "made-up", None, None, {})
    nothing: dict[str, Any] = {"contentType": None, "messageId": None, "expiration": None}
    assert parse_one(bare) == parse_one({**bare, **nothing}) == expected


def test_a_body_of_the_largest_size_is_taken_in_a_batch() -> None:
    parsed = parse_one({**PLAIN, "body": "x" * MAX_BODY_BYTES})
    assert isinstance(parsed, Publication)
    assert len(parsed.body) == MAX_BODY_BYTES


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"messages":{}}',
        b'{"messages":[]}',
        b'{"messages":[1],"more":1}',
        b"[" * 100_000,
        b'{"messages":[' + b"1" * 5_000 + b"]}",
    ],
)
def test_an_unparseable_batch_is_refused_as_a_whole(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_batch(document, lambda: "made-up")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values, max_size=3),
    max_leaves=6,
)
NAMES = ["user", "destination", "body", "bodyBase64", "contentType", "messageId", "expiration", "headers", "other"]


@with_any(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(["alice", "/queue/demo", "eA=="])))
def test_whatever_json_holds_is_a_message_or_a_reason(fields: dict[str, Any]) -> None:
    parsed = parse_one(fields)
    assert isinstance(parsed, Publication) or str(parsed)
