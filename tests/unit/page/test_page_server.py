"""The page's server without a dispatcher: a fake one records what would have been published."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pushcluster_page.server import MAX_TEXT_CHARS, TOKEN_TTL_S, content_security_policy, create_app, mint_token
from pushcluster_page.settings import STOMPJS_FILE, InvalidSettings, Settings

JWT_KEY = "0123456789abcdef0123456789abcdef"
Client = TestClient[web.Request, web.Application]


@dataclass
class FakeDispatcher:
    status: int = 202
    published: list[tuple[str, str, str, str, str, bytes]] = field(default_factory=list)

    async def publish(self, request: web.Request) -> web.Response:
        user, destination = request.match_info["user"], request.query["destination"]
        names = ("authorization", "content-type", "idempotency-key")
        authorization, content_type, message_id = (request.headers[name] for name in names)
        body = await request.read()
        self.published.append((user, destination, authorization, content_type, message_id, body))
        return web.json_response({"detail": "the broker is away"} if self.status != 202 else {}, status=self.status)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / STOMPJS_FILE).write_text("var StompJs = {}")
    return {
        "PAGE_WS_URL": "ws://127.0.0.1:18080/ws",
        "PAGE_API_URL": "http://127.0.0.1:1/",
        "PAGE_API_KEY": "api-secret",
        "PAGE_JWT_KEY": JWT_KEY,
        "PAGE_STOMPJS_DIR": str(tmp_path),
    }


@pytest.fixture
async def dispatcher(environ: dict[str, str]) -> AsyncIterator[FakeDispatcher]:
    fake = FakeDispatcher()
    app = web.Application()
    app.router.add_post("/v1/users/{user}/messages", fake.publish)
    async with TestServer(app) as server:
        environ["PAGE_API_URL"] = f"http://127.0.0.1:{server.port}/"
        yield fake


@pytest.fixture
async def client(environ: dict[str, str]) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create_app(Settings.load(environ)))) as made:
        yield made


async def test_a_message_goes_to_the_named_user_with_the_key_that_stays_on_the_server(
    dispatcher: FakeDispatcher, client: Client
) -> None:
    reply = await client.post("/send", json={"user": "bob", "text": "grüße", "id": "id-1"})
    assert (reply.status, await reply.json()) == (202, {"accepted": True})
    assert dispatcher.published == [
        ("bob", "/queue/demo", "Bearer api-secret", "text/plain; charset=utf-8", "id-1", "grüße".encode())
    ]


async def test_no_answer_of_the_server_holds_a_key(client: Client) -> None:
    for path in ("/", "/page.js", "/inbox.js", "/style.css", "/config.json", "/token?user=alice"):
        reply = await client.get(path)
        text = await reply.text()
        assert reply.status == 200
        assert "api-secret" not in text
        assert JWT_KEY not in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": "mallory", "text": "hi", "id": "id-1"}, 403),
        ({"user": "alice", "text": "", "id": "id-1"}, 400),
        ({"user": "alice", "text": "x" * (MAX_TEXT_CHARS + 1), "id": "id-1"}, 400),
        ({"user": "alice", "text": "hi"}, 400),
        ({"user": "alice", "text": "hi", "id": "a\r\nb"}, 400),
        (["alice", "hi"], 400),
    ],
)
async def test_what_cannot_be_sent_is_refused_with_a_sentence_and_publishes_nothing(
    dispatcher: FakeDispatcher, client: Client, body: object, status: int
) -> None:
    reply = await client.post("/send", json=body)
    assert reply.status == status
    assert (await reply.json())["error"]
    assert dispatcher.published == []


async def test_a_form_of_another_site_cannot_send(dispatcher: FakeDispatcher, client: Client) -> None:
    reply = await client.post("/send", data='{"user": "alice", "text": "hi"}', headers={"content-type": "text/plain"})
    assert reply.status == 415
    assert dispatcher.published == []


async def test_a_refusal_of_the_dispatcher_reaches_the_page(dispatcher: FakeDispatcher, client: Client) -> None:
    dispatcher.status = 503
    reply = await client.post("/send", json={"user": "alice", "text": "hi", "id": "id-1"})
    assert reply.status == 502
    assert "the broker is away" in (await reply.json())["error"]


async def test_a_dispatcher_that_is_away_is_a_503(client: Client) -> None:
    reply = await client.post("/send", json={"user": "alice", "text": "hi", "id": "id-1"})
    assert reply.status == 503


async def test_a_token_is_made_for_a_demo_user_and_lives_for_a_short_time(client: Client) -> None:
    reply = await client.get("/token", params={"user": "alice"})
    claims = jwt.decode((await reply.json())["token"], JWT_KEY, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["iat"] == TOKEN_TTL_S
    assert reply.headers["cache-control"] == "no-store"


async def test_nobody_else_gets_a_token(client: Client) -> None:
    assert (await client.get("/token", params={"user": "mallory"})).status == 403
    assert (await client.get("/token")).status == 403


async def test_the_stock_client_is_served_from_the_given_directory(client: Client) -> None:
    reply = await client.get("/stomp.js")
    assert await reply.text() == "var StompJs = {}"
    assert reply.content_type in ("text/javascript", "application/javascript")


async def test_a_browser_may_connect_to_the_gateways_and_to_nothing_else(client: Client) -> None:
    reply = await client.get("/")
    policy = reply.headers["content-security-policy"]
    assert policy == content_security_policy("ws://127.0.0.1:18080/ws")
    assert "connect-src 'self' ws://127.0.0.1:18080;" in policy
    assert "default-src 'none'" in policy


def test_a_token_says_who_and_until_when() -> None:
    token = mint_token("alice", "email", JWT_KEY, now_s=1000.9)
    claims = jwt.decode(token, JWT_KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims == {"email": "alice", "iat": 1000, "exp": 1000 + TOKEN_TTL_S}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAGE_WS_URL", "http://127.0.0.1/ws"),
        ("PAGE_API_URL", "demo-dispatcher"),
        ("PAGE_JWT_KEY", "too-short"),
        ("PAGE_API_KEY", ""),
        ("PAGE_API_KEY", " \n"),
        ("PAGE_USERS", "alice,alice"),
        ("PAGE_USERS", "alice,"),
        ("PAGE_PORT", "http"),
        ("PAGE_STOMPJS_DIR", "/nowhere"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], name: str, value: str) -> None:
    environ[name] = value
    with pytest.raises(InvalidSettings, match=name):
        Settings.load(environ)


def test_a_line_end_behind_the_key_does_not_count(environ: dict[str, str]) -> None:
    environ["PAGE_JWT_KEY"] = JWT_KEY + "\r\n"
    assert Settings.load(environ).jwt_key == JWT_KEY


def test_secrets_stay_out_of_the_repr(environ: dict[str, str]) -> None:
    shown = repr(Settings.load(environ))
    assert "api-secret" not in shown
    assert JWT_KEY not in shown
