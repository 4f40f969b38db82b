"""Problem documents (RFC 9457): the answer to every refused request."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from pushcluster_contract.errors import InvalidInput, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1

_CLOSING: Final = {
    HTTPStatus.UNAUTHORIZED,  # a client without a key costs one request head and no more
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,  # the rest of the body is not worth reading
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.EXPECTATION_FAILED,  # nobody knows whether the body will come anyway
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
}
_LATER: Final = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}

_log = logging.getLogger(__name__)


class Problem(Exception):
    """A request that is refused."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def build_problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response of a refused request."""
    response = web.Response(status=status, body=encode_problem(status, detail), content_type=MEDIA_TYPE)
    response.headers.update(headers or {})
    if status in _LATER:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status in _CLOSING:
        response.force_close()
    return response


def encode_problem(status: HTTPStatus, detail: str) -> bytes:
    """Return the document without a response around it."""
    document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return json.dumps(document, ensure_ascii=False).encode()


def encode_response(status: HTTPStatus, detail: str) -> bytes:
    """Return a whole response as bytes, for a connection that no HTTP library serves. It announces `close`."""
    body = encode_problem(status, detail)
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if status in _LATER:
        head.append(f"Retry-After: {RETRY_AFTER_S}")
    return "\r\n".join([*head, "", ""]).encode() + body


def translate(request: web.BaseRequest, error: Exception) -> web.Response:
    """Return the answer to any exception that a handler raised."""
    match error:
        case Problem():
            return build_problem(error.status, error.detail, error.headers)
        case InvalidInput():
            return build_problem(HTTPStatus.BAD_REQUEST, str(error))
        case Unavailable():
            return build_problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return build_problem(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} supports only {allowed}", {"Allow": allowed}
            )
        case web.HTTPException():
            return build_problem(HTTPStatus(error.status), f"there is nothing at {request.path}")
    _log.error("a request failed", extra={"path": request.path}, exc_info=error)
    return build_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the dispatcher failed; its log says why")
