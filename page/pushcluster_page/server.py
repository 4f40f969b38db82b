"""The page's server: static files, tokens for the demo users, and sending with an API key that stays here.

It takes the place of a company's own back end. It knows who the user is (here: one of a fixed list), makes a token for
the gateway, and publishes with a key that no browser ever sees.
"""

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
import jwt
from aiohttp import web
from aiohttp.typedefs import Handler

from pushcluster_page.settings import STOMPJS_FILE, Settings

DESTINATION: Final = "/queue/demo"
TOKEN_TTL_S: Final = 900
"""Short, because the page asks for a new token at each connect anyway."""
API_TIMEOUT_S: Final = 5.0
MAX_TEXT_CHARS: Final = 1_000
MAX_REQUEST_BYTES: Final = 16_384

_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_STATIC: Final = Path(__file__).parent / "static"
_SETTINGS: Final = web.AppKey("settings", Settings)
_SESSION: Final = web.AppKey("session", aiohttp.ClientSession)


def create_app(settings: Settings) -> web.Application:
    """Return the application. It opens its one HTTP client session when it starts."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app[_SETTINGS] = settings
    app.cleanup_ctx.append(_client_session)
    app.on_response_prepare.append(_set_security_headers)
    app.router.add_get("/", _serve(_STATIC / "index.html"))
    for name in ("page.js", "inbox.js", "style.css", "favicon.svg"):
        app.router.add_get(f"/{name}", _serve(_STATIC / name))
    app.router.add_get("/stomp.js", _serve(settings.stompjs_dir / STOMPJS_FILE))
    app.router.add_get("/config.json", _get_config)
    app.router.add_get("/token", _get_token)
    app.router.add_post("/send", _post_send)
    app.router.add_get("/healthz", _get_health)
    return app


def mint_token(user: str, claim: str, key: str, now_s: float) -> str:
    """Return a JWT (HS256) for `user`, valid for `TOKEN_TTL_S`. `now_s` is in seconds since the epoch."""
    claims = {claim: user, "iat": int(now_s), "exp": int(now_s) + TOKEN_TTL_S}
    return jwt.encode(claims, key, algorithm="HS256")


def content_security_policy(ws_url: str) -> str:
    """Return the policy: everything comes from this server, except the connection to the gateways."""
    url = urlsplit(ws_url)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' {url.scheme}://{url.netloc}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _serve(path: Path) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    return handler


async def _get_config(request: web.Request) -> web.Response:
    settings = request.app[_SETTINGS]
    return web.json_response(
        {
            "wsUrl": settings.ws_url,
            "users": settings.users,
            "destination": DESTINATION,
            "nowMs": int(time.time() * 1_000),
        }
    )


async def _get_token(request: web.Request) -> web.Response:
    settings = request.app[_SETTINGS]
    user = request.query.get("user", "")
    if user not in settings.users:
        return _refuse(403, f"this page makes tokens only for {', '.join(settings.users)}")
    token = mint_token(user, settings.user_claim, settings.jwt_key, time.time())
    return web.json_response({"token": token, "expiresInS": TOKEN_TTL_S})


async def _post_send(request: web.Request) -> web.Response:
    settings = request.app[_SETTINGS]
    # Browsers ask for permission before they send JSON to another site. So no other site can send with this page's key.
    if request.content_type != "application/json":
        return _refuse(415, "send JSON, with content-type application/json")
    try:
        body = await request.json()
        user, text, message_id = str(body["user"]), str(body["text"]), str(body["id"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return _refuse(400, 'send {"user": …, "text": …, "id": …}')
    if user not in settings.users:
        return _refuse(403, f"this page sends only to {', '.join(settings.users)}")
    if not 1 <= len(text) <= MAX_TEXT_CHARS:
        return _refuse(400, f"text must have 1 to {MAX_TEXT_CHARS} characters")
    if not _MESSAGE_ID.fullmatch(message_id):
        return _refuse(400, "id must have 1 to 64 letters, digits and hyphens")
    return await _publish(request.app, user, text, message_id)


async def _publish(app: web.Application, user: str, text: str, message_id: str) -> web.Response:
    settings = app[_SETTINGS]
    url = f"{settings.api_url}/v1/users/{quote(user, safe='')}/messages"
    headers = {
        "authorization": f"Bearer {settings.api_key}",
        "content-type": "text/plain; charset=utf-8",
        # If it is sent again after a lost answer, it is still one message.
        "idempotency-key": message_id,
    }
    try:
        async with app[_SESSION].post(
            url, params={"destination": DESTINATION}, data=text.encode(), headers=headers
        ) as reply:
            if reply.status == 202:
                return web.json_response({"accepted": True}, status=202)
            return _refuse(502, f"the dispatcher answered {reply.status}: {await _read_problem(reply)}")
    except (aiohttp.ClientError, TimeoutError):
        return _refuse(503, "the dispatcher does not answer")


async def _read_problem(reply: aiohttp.ClientResponse) -> str:
    """Return the detail of the dispatcher's problem document (RFC 9457)."""
    text = await reply.text()
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


async def _get_health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def _refuse(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


async def _client_session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=API_TIMEOUT_S)) as session:
        app[_SESSION] = session
        yield


async def _set_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["content-security-policy"] = content_security_policy(request.app[_SETTINGS].ws_url)
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "no-referrer"
    # Tokens must not lie about in a cache, and a page that was changed must not be served from one.
    response.headers["cache-control"] = "no-store" if request.path == "/token" else "no-cache"
