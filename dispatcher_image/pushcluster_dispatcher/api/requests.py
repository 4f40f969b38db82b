"""Parses requests. Behind this module, nothing looks into paths, queries or headers."""

import asyncio
import re
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import FORWARDED_PREFIX, TRACEPARENT
from pushcluster_contract.ids import check_message_id, check_session_id, check_user
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher.api.problems import Problem
from pushcluster_dispatcher.api.publication import Publication, check_content_type, check_headers
from pushcluster_dispatcher.messages import parse_expiration

BODY_TIMEOUT_S: Final = 10.0
"""How long a back end may take to send a body."""
MAX_WAIT_MS: Final = 30_000
"""How long a request may wait for outcomes."""
JSON: Final = "application/json"

_STRAY_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2}).{0,2}")
_MEANT_FOR_CLIENTS: Final = "x-push-"
"""`X-Push-<name>` reaches the client as `x-<name>`. Other `x-` headers are left out, because proxies add addresses,
identities and keys of the back end's network under names that cannot be listed."""


def parse_user(request: web.Request) -> str:
    """Return the user id from `/v1/users/{user}…`. aiohttp itself would leave `%FF` as these three characters."""
    try:
        return check_user(unquote_to_bytes(request.rel_url.raw_parts[3]).decode())
    except UnicodeDecodeError:
        raise InvalidInput("the user id in the path is not percent-encoded UTF-8") from None


def check_target(request: web.Request) -> None:
    """Raise InvalidInput for a % without two hex digits (RFC 3986, section 2.1). aiohttp would take it literally."""
    stray = _STRAY_PERCENT.search(request.raw_path)
    if stray is not None:
        raise InvalidInput(f"the request's target has {stray[0]!r}: a % must be followed by two hex digits; write %25")


def check_query(request: web.Request, *names: str) -> None:
    """Raise InvalidInput for an unknown or repeated parameter, so that typos are caught."""
    for name in request.query:
        if name not in names:
            may = f"may have {', '.join(names)}" if names else "has none"
            raise InvalidInput(f"the query has no parameter {name[:100]!r}; it {may}")
        if len(request.query.getall(name)) > 1:
            raise InvalidInput(f"the query has {name!r} more than once")


def parse_session(request: web.Request) -> str:
    """Return the session id from `…/sessions/{session}`."""
    return check_session_id(request.match_info["session"])


def parse_destination(request: web.Request) -> Destination:
    """Return `?destination=`."""
    text = request.query.get("destination")
    if text is None:
        raise InvalidInput("the query needs ?destination=/queue/<name> or ?destination=/topic/<name>")
    return Destination.parse(text)


def parse_wait_s(request: web.Request) -> float | None:
    """Return `?wait=` in seconds, or None without it."""
    text = request.query.get("wait")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= MAX_WAIT_MS:
        raise InvalidInput(f"wait {text[:50]!r} is not a whole number of ms from 1 to {MAX_WAIT_MS}")
    return int(text) / 1_000


async def read_publication(request: web.Request, *, spare_message_id: str) -> Publication:
    """Read `POST /v1/users/{user}/messages`, the body last. Raises InvalidInput and Problem."""
    user, destination = parse_user(request), parse_destination(request)
    message_id = _parse_message_id(request, spare_message_id)
    expiration = request.query.get("expiration")
    expiration_ms = None if expiration is None else parse_expiration(expiration)
    content_type = request.headers.get("Content-Type")
    content_type = None if content_type is None else check_content_type(content_type)
    headers = _select_headers(request)
    body = await read_body(request, MAX_BODY_BYTES)
    return Publication(user, destination, body, message_id, content_type, expiration_ms, headers)


def require_json(request: web.Request) -> None:
    """Raise Problem unless the request says that its body is JSON."""
    if request.content_type != JSON:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {JSON}")


async def read_body(request: web.Request, max_bytes: int) -> bytes:
    """Return the body. Raises Problem; stops reading at the first byte beyond the limit."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed")
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large; at most {max_bytes} bytes are allowed"
    )
    if (request.content_length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
    return bytes(body)


def _parse_message_id(request: web.Request, spare: str) -> str:
    """Return the idempotency key. An empty one is refused, because its sender relies on having one."""
    given = request.headers.getall("Idempotency-Key", [])
    if len(given) > 1:
        raise InvalidInput("the request has the header Idempotency-Key more than once")
    return check_message_id(given[0]) if given else spare


def _select_headers(request: web.Request) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for name in dict.fromkeys(map(str.lower, request.headers)):
        if name == TRACEPARENT:
            as_client_sees_it = name
        elif name.startswith(_MEANT_FOR_CLIENTS):
            as_client_sees_it = FORWARDED_PREFIX + name.removeprefix(_MEANT_FOR_CLIENTS)
        else:
            continue
        chosen[as_client_sees_it] = ", ".join(request.headers.getall(name))
    return check_headers(chosen)
