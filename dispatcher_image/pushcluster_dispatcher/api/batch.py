"""Parses the JSON of `POST /v1/messages:batch`. Pure."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import forwarded_name
from pushcluster_contract.ids import check_message_id, check_user
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher.api.publication import Publication, check_content_type, check_headers
from pushcluster_dispatcher.messages import parse_expiration

MAX_BATCH_MESSAGES: Final = 500
MAX_BATCH_BYTES: Final = 1_048_576
"""The JSON document."""
MAX_BATCH_OBJECTS: Final = 4_000
"""JSON objects in one document. A batch needs two for each message: itself and its headers."""

_REQUIRED: Final = ("user", "destination")
_FIELDS: Final = frozenset({*_REQUIRED, "body", "bodyBase64", "contentType", "messageId", "expiration", "headers"})


def parse_batch(document: bytes, new_message_id: Callable[[], str]) -> list[Publication | InvalidInput]:
    """Return each message, or what is wrong with it, in order. Raises InvalidInput if the whole is unparseable."""
    try:
        batch: Any = json.loads(document, object_pairs_hook=_Objects().read)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON") from None
    if isinstance(batch, _Repeated):
        raise batch.error()
    messages = batch.get("messages") if isinstance(batch, dict) and set(batch) == {"messages"} else None
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_BATCH_MESSAGES:
        raise InvalidInput(f'the body must be {{"messages": […]}} with 1 to {MAX_BATCH_MESSAGES} messages')
    return [_parse_or_tell(message, new_message_id) for message in messages]


class _Repeated(NamedTuple):
    """What stands for a JSON object that has a field twice. Readers disagree on which of the two counts."""

    field: str

    def error(self) -> InvalidInput:
        return InvalidInput(f"field {self.field[:100]!r} is there more than once")


class _Objects:
    """Reads the JSON objects of one document."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
        """Return an object. Raise InvalidInput for one too many."""
        self._count += 1
        if self._count > MAX_BATCH_OBJECTS:
            raise InvalidInput(f"the body has more than {MAX_BATCH_OBJECTS} JSON objects")
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if isinstance(value, _Repeated):
                return value
            if name in fields:
                return _Repeated(name)
            fields[name] = value
        return fields


def _parse_or_tell(message: object, new_message_id: Callable[[], str]) -> Publication | InvalidInput:
    try:
        return _parse_message(message, new_message_id)
    except InvalidInput as error:
        return error


def _parse_message(message: object, new_message_id: Callable[[], str]) -> Publication:
    if isinstance(message, _Repeated):
        raise message.error()
    if not isinstance(message, dict):
        raise InvalidInput("the message is not a JSON object")
    fields = cast(dict[str, object], message)
    if unknown := sorted(set(fields) - _FIELDS):
        raise InvalidInput(f"unknown field {unknown[0][:100]!r}; a message may have {', '.join(sorted(_FIELDS))}")
    for name in _REQUIRED:
        if name not in fields:
            raise InvalidInput(f"field {name!r} is missing")
    content_type, message_id = _optional_text(fields, "contentType"), _optional_text(fields, "messageId")
    return Publication(
        user=check_user(_text(fields["user"], "user")),
        destination=Destination.parse(_text(fields["destination"], "destination")),
        body=_parse_body(fields),
        message_id=new_message_id() if message_id is None else check_message_id(message_id),
        content_type=None if content_type is None else check_content_type(content_type),
        expiration_ms=_parse_expiration(fields.get("expiration")),
        headers=_parse_headers(fields.get("headers", {})),
    )


def _parse_body(fields: Mapping[str, object]) -> bytes:
    if ("body" in fields) == ("bodyBase64" in fields):
        raise InvalidInput("the message needs either 'body' (a text) or 'bodyBase64', and not both")
    if "body" in fields:
        body = _text(fields["body"], "body").encode()
    else:
        try:
            body = base64.b64decode(_text(fields["bodyBase64"], "bodyBase64"), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput("field 'bodyBase64' is not base64 (RFC 4648, section 4)") from None
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput(f"the body has {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    return body


def _parse_expiration(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput("field 'expiration' is not a whole number of milliseconds")
    return parse_expiration(str(value))


def _parse_headers(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput("field 'headers' is not a JSON object")
    headers = cast(dict[str, object], value)
    for name in headers:
        if forwarded_name(name) is None:
            raise InvalidInput(f"header {name[:100]!r} would not reach clients; only x-… and traceparent do")
    return check_headers(headers)


def _optional_text(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields[name], name)


def _text(value: object, name: str) -> str:
    """Return a text that can be encoded. JSON may contain halves of surrogate pairs, which cannot."""
    if not isinstance(value, str):
        raise InvalidInput(f"field {name!r} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"field {name!r} is not valid Unicode") from None
    return value
