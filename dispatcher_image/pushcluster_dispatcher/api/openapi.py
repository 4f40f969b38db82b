"""The API as an OpenAPI 3.1 document. Pure; a test holds it and the routes together, another one every status in it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pushcluster_contract.limits import MAX_BODY_BYTES, MAX_NAME_CHARS
from pushcluster_contract.outcomes import MessageOutcome
from pushcluster_contract.version import VERSION
from pushcluster_dispatcher.api.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from pushcluster_dispatcher.api.problems import MEDIA_TYPE
from pushcluster_dispatcher.api.requests import MAX_WAIT_MS

Document = dict[str, Any]

_TEXT: Final[Document] = {"type": "string"}
_COUNT: Final[Document] = {"type": "integer", "minimum": 0}
_DESTINATION: Final[Document] = {
    "type": "string",
    "pattern": f"^/(queue|topic)/[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}$",
    "examples": ["/queue/demo"],
}
_ALWAYS: Final = (401, 403, 500)
"""What any request with a key may be answered."""


def build_document() -> Document:
    """Return the document that `GET /openapi.json` serves."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PushCluster dispatcher",
            "version": VERSION,
            "description": "Push a message to exactly the named user. docs/api.md has the same in prose.",
        },
        "security": [{"key": []}],
        "paths": {
            "/openapi.json": {"get": _get_openapi()},
            "/v1/users/{user}/messages": {"parameters": [_USER], "post": _post_message()},
            "/v1/messages:batch": {"post": _post_batch()},
            "/v1/users/{user}/sessions": {"parameters": [_USER], "get": _get_sessions()},
            "/v1/users/{user}/sessions/{session}": {"parameters": [_USER, _SESSION], "delete": _delete_session()},
            "/v1/users/{user}/route": {"parameters": [_USER], "get": _get_route()},
            "/v1/users/{user}": {"parameters": [_USER], "delete": _delete_user()},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": _PROBLEM,
                "Outcome": _OUTCOME,
                "Accepted": _ACCEPTED,
                "Message": _MESSAGE,
                "Session": _SESSION_SCHEMA,
                "Copy": _COPY,
            },
        },
    }


def _object(properties: Mapping[str, Any], *, optional: tuple[str, ...] = (), **more: Any) -> Document:
    """Return the schema of an object that has no other properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Document, **more: Any) -> Document:
    return {"type": "array", "items": items, **more}


def _query(name: str, description: str, schema: Document, *, required: bool = False) -> Document:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _in_path(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


_USER: Final = _in_path("user", "User id: 1 to 255 bytes of UTF-8.", {"type": "string", "minLength": 1})
_SESSION: Final = _in_path("session", "Session id.", {"type": "string", "pattern": "^[a-z2-7]{26}$"})
_AT: Final = _query("destination", "Where the message goes.", _DESTINATION, required=True)
_WAIT: Final = _query(
    "wait",
    "Ms to wait for outcomes, one a session; those that are not known by then are `pending`.",
    {"type": "integer", "minimum": 1, "maximum": MAX_WAIT_MS},
)
_EXPIRATION: Final[Document] = {"type": "integer", "minimum": 0, "description": "Ms that the message may wait."}

_PROBLEM: Final = _object(
    {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}, description="RFC 9457."
)
_OUTCOME: Final = _object(
    {
        "outcome": {"type": "string", "enum": [each.value for each in MessageOutcome]},
        "session": {**_TEXT, "description": "Missing: it holds for the message as a whole."},
        "gateway": {**_TEXT, "description": "The gateway's pod."},
        "reason": _TEXT,
    },
    optional=("session", "gateway", "reason"),
)
_OUTCOMES: Final = _list(_ref("Outcome"), description="Only with `wait`.")
_ACCEPTED: Final = _object(
    {
        "status": {"const": "accepted"},
        "user": _TEXT,
        "destination": _DESTINATION,
        "messageId": _TEXT,
        "outcomes": _OUTCOMES,
    },
    optional=("outcomes",),
)
_MESSAGE: Final = _object(
    {
        "user": _TEXT,
        "destination": _DESTINATION,
        "body": {**_TEXT, "description": "The payload as text."},
        "bodyBase64": {**_TEXT, "contentEncoding": "base64", "description": "The payload as bytes."},
        "contentType": _TEXT,
        "messageId": {**_TEXT, "minLength": 1, "description": "Idempotency key."},
        "expiration": _EXPIRATION,
        "headers": {
            "type": "object",
            "description": "Reach the client.",
            "propertyNames": {"pattern": "^(x-.*|traceparent)$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    },
    optional=("body", "bodyBase64", "contentType", "messageId", "expiration", "headers"),
    oneOf=[{"required": ["body"]}, {"required": ["bodyBase64"]}],
)
_RESULT: Final = _object(
    {
        "status": {"type": "integer", "description": "What the message would have been answered alone."},
        "user": _TEXT,
        "destination": _DESTINATION,
        "messageId": _TEXT,
        "detail": {**_TEXT, "description": "What is wrong."},
        "outcomes": _OUTCOMES,
    },
    optional=("user", "destination", "messageId", "detail", "outcomes"),
)
_SESSION_PROPERTIES: Final[Document] = {
    "session": _TEXT,
    "incarnation": {**_TEXT, "description": "The gateway process: `<pod UID>.<16 hex digits>`."},
    "destinations": _list(_DESTINATION),
}
_SESSION_SCHEMA: Final = _object(_SESSION_PROPERTIES)
_COPY: Final = _object({"exchange": _TEXT, "routingKey": _TEXT, "fallback": _ref("Copy")}, optional=("fallback",))


def _get_openapi() -> Document:
    return {
        "operationId": "getOpenapi",
        "summary": "This document; no key is needed.",
        "security": [],
        "responses": {"200": _json("The document.", {"type": "object"})},
    }


def _post_message() -> Document:
    idempotency_key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "With it, a retry within `delivery.idempotency.windowSeconds` never shows twice.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }
    return {
        "operationId": "publish",
        "summary": "Publish one message. Headers `X-Push-<name>`, as `x-<name>`, and `traceparent` reach the client.",
        "parameters": [
            _AT,
            _WAIT,
            _query("expiration", "Ms that the message may wait.", _EXPIRATION),
            idempotency_key,
        ],
        "requestBody": {
            "description": f"The payload: opaque, at most {MAX_BODY_BYTES} bytes.",
            "content": {"*/*": {}},
        },
        "responses": {
            "200": _json("All outcomes are final.", _ref("Accepted")),
            "202": _json("A majority of the ingress queue has it on disk.", _ref("Accepted")),
            **_problems(400, 408, 413, 415, 429, 503),
        },
    }


def _post_batch() -> Document:
    batch = _object({"messages": _list(_ref("Message"), minItems=1, maxItems=MAX_BATCH_MESSAGES)})
    results = _object({"accepted": _COUNT, "results": _list(_RESULT)})
    return {
        "operationId": "publishBatch",
        "summary": "Publish many messages, each by itself.",
        "parameters": [_WAIT],
        "requestBody": {
            "required": True,
            "description": f"At most {MAX_BATCH_BYTES} bytes.",
            "content": {"application/json": {"schema": batch}},
        },
        "responses": {
            "202": _json("All are accepted.", results),
            "207": _json("Some are not: see each result's status.", results),
            **_problems(400, 408, 413, 415, 429),
        },
    }


def _get_sessions() -> Document:
    sessions = _object({"user": _TEXT, "sessions": _list(_ref("Session"))})
    return {
        "operationId": "listSessions",
        "summary": "Who is connected, where, subscribed to what.",
        "responses": {"200": _json("The user's sessions.", sessions), **_problems(400, 503)},
    }


def _delete_session() -> Document:
    told = _object({"user": _TEXT, "session": _TEXT, "incarnation": _TEXT})
    return {
        "operationId": "disconnectSession",
        "summary": "Disconnect one session.",
        "responses": {"202": _json("Its gateway has been told.", told), **_problems(400, 404, 503)},
    }


def _get_route() -> Document:
    session = _object(
        {
            **_SESSION_PROPERTIES,
            "subscribed": {"type": "boolean"},
            "lease": {"type": "boolean", "description": "Whether its gateway holds a lease."},
        }
    )
    route = _object(
        {
            "user": _TEXT,
            "destination": _DESTINATION,
            "mode": _TEXT,
            "why": _list(_TEXT),
            "sessions": _list(session),
            "copies": _list(_ref("Copy")),
            "offline": _object({"entries": _COUNT, "waiting": _COUNT, "newest": _TEXT, "cursor": _TEXT}),
        }
    )
    return {
        "operationId": "explainRoute",
        "summary": "Where a message would go now, and why.",
        "parameters": [_AT],
        "responses": {"200": _json("The route.", route), **_problems(400, 503)},
    }


def _delete_user() -> Document:
    forgotten = _object({"user": _TEXT, "destinations": _COUNT, "sessions": _COUNT, "unreachable": _COUNT})
    return {
        "operationId": "forgetUser",
        "summary": "Forget the user's logs and disconnect the user's sessions.",
        "responses": {"200": _json("What was done.", forgotten), **_problems(400, 503)},
    }


def _json(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> Document:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for status in sorted((*statuses, *_ALWAYS))
    }
