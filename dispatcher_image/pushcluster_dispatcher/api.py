"""The HTTP API for producers. Errors are problem documents (RFC 9457)."""

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from aiohttp import web
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.headers import DESTINATION, FORWARDED_PREFIX, select_forwarded
from pushcluster_contract.ids import check_message_id, check_user
from pushcluster_contract.limits import MAX_BODY_BYTES
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.parse import parse_expiration

BODY_TIMEOUT_S: Final = 10.0
"""How long a producer may take to send a body."""
RETRY_AFTER_S: Final = 1
PERSISTENT: Final = 2

_PROXY_PREFIXES: Final = ("x-forwarded-", "x-real-ip", "x-envoy-")
"""What proxies on the way add: addresses of the producer's network, which are no business of a client."""

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Publisher(Protocol):
    """What the API needs of ingress."""

    async def publish(self, user: str, body: bytes, properties: BasicProperties) -> None:
        """Return once the message is safe; raises Unavailable."""


class _Problem(Exception):
    """A request that is refused."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Api:
    """The routes and what they do. `new_message_id` names messages that come without an `Idempotency-Key`."""

    def __init__(self, publisher: Publisher, key: str, *, metrics: Metrics, new_message_id: Callable[[], str]) -> None:
        self._publisher = publisher
        self._authorization = f"Bearer {key}".encode()
        self._metrics = metrics
        self._new_message_id = new_message_id

    def build_app(self) -> web.Application:
        """Return the application to serve."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request, handler)

        app = web.Application(middlewares=[answer])
        app.router.add_post("/v1/users/{user}/messages", self._post_message)
        return app

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Run a handler; every error becomes a problem document."""
        try:
            self._authenticate(request)
            response = await handler(request)
        except Exception as error:
            response = _translate(request, error)
        self._metrics.api_requests.labels(str(response.status)).inc()
        return response

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._authorization):
            raise _Problem(HTTPStatus.UNAUTHORIZED, "the request needs the header Authorization: Bearer <key>")

    async def _post_message(self, request: web.Request) -> web.Response:
        """Publish one message for one user; 202 once it is safe."""
        user = _parse_user(request)
        destination = _parse_destination(request)
        message_id = check_message_id(request.headers.get("Idempotency-Key") or self._new_message_id())
        properties = BasicProperties(
            content_type=_parse_content_type(request),
            message_id=message_id,
            delivery_mode=PERSISTENT,
            expiration=_parse_expiration(request),
            headers={DESTINATION: str(destination), **_select_headers(request)},
        )
        await self._publisher.publish(user, await _read_body(request), properties)
        answer = {"status": "accepted", "user": user, "destination": str(destination), "messageId": message_id}
        return web.json_response(answer, status=HTTPStatus.ACCEPTED)


def _parse_user(request: web.Request) -> str:
    """Return the user id out of `/v1/users/{user}/…`; aiohttp itself would leave `%FF` as these three characters."""
    try:
        return check_user(unquote_to_bytes(request.rel_url.raw_parts[3]).decode())
    except UnicodeDecodeError:
        raise InvalidInput("the user id in the path is not percent-encoded UTF-8") from None


def _parse_destination(request: web.Request) -> Destination:
    text = request.query.get("destination")
    if text is None:
        raise InvalidInput("the query needs ?destination=/queue/<name> or /topic/<name>")
    return Destination.parse(text)


def _parse_expiration(request: web.Request) -> str | None:
    text = request.query.get("expiration")
    return None if text is None else str(parse_expiration(text))


def _parse_content_type(request: web.Request) -> str | None:
    content_type = request.headers.get("Content-Type")
    if content_type is not None and (not content_type.isprintable() or len(content_type.encode()) > 255):
        raise InvalidInput("Content-Type is longer than 255 bytes or contains a control character")
    return content_type


def _select_headers(request: web.Request) -> dict[str, str]:
    given: dict[str, object] = {}
    for name in map(str.lower, request.headers):
        if not name.startswith(_PROXY_PREFIXES):
            value = given[name] = ", ".join(request.headers.getall(name))
            if name.startswith(FORWARDED_PREFIX) and not value.isprintable():
                raise InvalidInput(f"header {name[:100]!r} is not printable UTF-8")
    return select_forwarded(given)


async def _read_body(request: web.Request) -> bytes:
    """Return the body; stops reading at the first byte too many."""
    too_large = _Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes are allowed")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise _Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    return bytes(body)


def _translate(request: web.Request, error: Exception) -> web.Response:
    match error:
        case _Problem():
            return _build_problem(error.status, error.detail)
        case InvalidInput():
            return _build_problem(HTTPStatus.BAD_REQUEST, str(error))
        case Unavailable():
            return _build_problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            response = _build_problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} answers {allowed}")
            response.headers["Allow"] = allowed
            return response
        case web.HTTPException():
            return _build_problem(HTTPStatus(error.status), f"there is nothing at {request.path}")
    _log.error("a request failed", extra={"path": request.path}, exc_info=error)
    return _build_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the dispatcher failed; its log says why")


def _build_problem(status: HTTPStatus, detail: str) -> web.Response:
    document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    response = web.Response(
        status=status, text=json.dumps(document, ensure_ascii=False), content_type="application/problem+json"
    )
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status in {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}:
        response.force_close()  # the rest of the body is not worth reading
    return response
