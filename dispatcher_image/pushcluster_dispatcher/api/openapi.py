"""The API as an OpenAPI 3.1 document. Pure. Tests compare it with the routes and with every status they answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pushcluster_contract.headers import TRACEPARENT
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
"""Statuses that any request which needs a key may get."""


def build_document() -> Document:
    """Return the document that `GET /openapi.json` serves."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PushCluster dispatcher",
            "version": VERSION,
            "description": "Push a message to exactly the named user. docs/api.md describes the same in prose.",
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
    """Return the schema of an object that allows no other properties."""
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


_USER: Final = _in_path(
    "user", "The user id: 1 to 255 bytes of UTF-8, percent-encoded.", {"type": "string", "minLength": 1}
)
_SESSION: Final = _in_path(
    "session", "The session id, as in the list of the user's sessions.", {"type": "string", "pattern": "^[a-z2-7]{26}$"}
)
_AT: Final = _query("destination", "The destination that the user's clients subscribe to.", _DESTINATION, required=True)
_WAIT: Final = _query(
    "wait",
    "How long to wait for outcomes, in ms. One outcome for each session; unknown ones are `pending`.",
    {"type": "integer", "minimum": 1, "maximum": MAX_WAIT_MS},
)
_EXPIRATION: Final[Document] = {"type": "integer", "minimum": 0, "description": "How long the message may wait, in ms."}

_PROBLEM: Final = _object(
    {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
    description="Why the request was refused (RFC 9457); `detail` is for people.",
)
_OUTCOME: Final = _object(
    {
        "outcome": {"type": "string", "enum": [each.value for each in MessageOutcome]},
        "session": {
            **_TEXT,
            "description": "The session that the outcome is about. Absent: it is about the whole message.",
        },
        "gateway": {**_TEXT, "description": "Name of the gateway's pod."},
        "reason": {**_TEXT, "description": "Why the message was rejected."},
    },
    optional=("session", "gateway", "reason"),
)
_OUTCOMES: Final = _list(_ref("Outcome"), description="Present only if the request has `wait`.")
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
        "messageId": {
            **_TEXT,
            "minLength": 1,
            "description": "Idempotency key: a retry with the same key does not show twice.",
        },
        "expiration": _EXPIRATION,
        "headers": {
            "type": "object",
            "description": "Headers that reach the client, with a prefix `X-` in lower case.",
            "propertyNames": {"pattern": f"^([Xx]-.*|{''.join(f'[{c.upper()}{c}]' for c in TRACEPARENT)})$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    },
    optional=("body", "bodyBase64", "contentType", "messageId", "expiration", "headers"),
    oneOf=[{"required": ["body"]}, {"required": ["bodyBase64"]}],
)
_RESULT: Final = _object(
    {
        "status": {"type": "integer", "description": "The status that the message would have got alone."},
        "user": _TEXT,
        "destination": _DESTINATION,
        "messageId": _TEXT,
        "detail": {**_TEXT, "description": "What is wrong with the message, or why it could not be published."},
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
        "summary": "Return this document. No key is needed.",
        "security": [],
        "responses": {"200": _json("The document.", {"type": "object"})},
    }


def _post_message() -> Document:
    idempotency_key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A retry with the same key within `delivery.idempotency.windowSeconds` never shows twice.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }
    return {
        "operationId": "publish",
        "summary": "Publish one message. Headers `X-Push-<name>` (as `x-<name>`) and `traceparent` reach the client.",
        "parameters": [
            _AT,
            _WAIT,
            _query("expiration", "How long the message may wait, in ms.", _EXPIRATION),
            idempotency_key,
        ],
        "requestBody": {
            "description": f"The payload: opaque bytes, at most {MAX_BODY_BYTES}.",
            "content": {"*/*": {}},
        },
        "responses": {
            "200": _json("The request has `wait`, and all outcomes are final.", _ref("Accepted")),
            "202": _json("The message is on disk, in a majority of the ingress queue.", _ref("Accepted")),
            **_problems(400, 408, 409, 413, 415, 429, 503),
        },
    }


def _post_batch() -> Document:
    batch = _object({"messages": _list(_ref("Message"), minItems=1, maxItems=MAX_BATCH_MESSAGES)})
    results = _object({"accepted": _COUNT, "results": _list(_RESULT)})
    return {
        "operationId": "publishBatch",
        "summary": "Publish many messages. Each is published or refused independently.",
        "parameters": [_WAIT],
        "requestBody": {
            "required": True,
            "description": f"At most {MAX_BATCH_BYTES} bytes.",
            "content": {"application/json": {"schema": batch}},
        },
        "responses": {
            "202": _json("All messages are accepted.", results),
            "207": _json("Some messages are not accepted; see the status of each result.", results),
            **_problems(400, 408, 413, 415, 429),
        },
    }


def _get_sessions() -> Document:
    sessions = _object({"user": _TEXT, "sessions": _list(_ref("Session"))})
    return {
        "operationId": "listSessions",
        "summary": "List the user's sessions: who is connected, where, and subscribed to what.",
        "responses": {"200": _json("The user's sessions.", sessions), **_problems(400, 503)},
    }


def _delete_session() -> Document:
    told = _object({"user": _TEXT, "session": _TEXT, "incarnation": _TEXT})
    return {
        "operationId": "disconnectSession",
        "summary": "Disconnect one session.",
        "responses": {"202": _json("The session's gateway has been told.", told), **_problems(400, 404, 503)},
    }


def _get_route() -> Document:
    session = _object(
        {
            **_SESSION_PROPERTIES,
            "subscribed": {"type": "boolean"},
            "lease": {"type": "boolean", "description": "Whether the session's gateway holds a lease."},
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
        "summary": "Explain where a message would go now, and why.",
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
