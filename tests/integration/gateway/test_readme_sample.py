"""The front end's sample as it stands in the README, in a real browser, with a gateway that does as it is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from playwright.async_api import Page

from local_run.plane import STOMPJS_DIR
from pushcluster_gateway import close_codes
from pushcluster_page.settings import STOMPJS_FILE
from tests.support.browser import open_page
from tests.support.fake_gateway import FakeGateway, running, running_gateway
from tests.support.waiting import eventually

README: Final = Path(__file__).parents[3] / "README.md"
BROKER: Final = "wss://push.example.com/ws"
FIRST_CALL: Final = 'receive("alice", "/queue/demo");'
STUBS: Final = """
  const shown = [], waits = [], newTokens = [], later = window.setTimeout;
  Math.random = () => 1;
  window.setTimeout = (call, ms) => {
    if (ms > 1) waits.push(ms);
    return later(call, Math.min(ms, 1));
  };
  const freshToken = async (user) => `${user}-${newTokens.shift() ?? "token-1"}`;
  const show = (text) => shown.push(text);
  const refetchEverything = () => shown.push("refetched");
"""


def sample() -> str:
    (block,) = [block.partition("```")[0] for block in README.read_text().split("```js\n")[1:] if "StompJs" in block]
    assert BROKER in block
    assert block.rstrip().endswith(FIRST_CALL)
    return block


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with running_gateway() as made:
        yield made


@pytest.fixture
async def page(gateway: FakeGateway) -> AsyncIterator[Page]:
    async def serve(_: web.Request) -> web.Response:
        script = sample().replace(BROKER, gateway.url)
        html = f"<!doctype html><script src=stomp.js></script><script>{STUBS}</script><script>{script}</script>"
        return web.Response(text=html, content_type="text/html")

    async def serve_stompjs(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(STOMPJS_DIR / STOMPJS_FILE)

    app = web.Application()
    app.router.add_get("/", serve)
    app.router.add_get("/stomp.js", serve_stompjs)
    async with running(app) as port, open_page(f"http://127.0.0.1:{port}/") as opened:
        yield opened


async def subscribed(gateway: FakeGateway, times: int) -> dict[str, str]:
    await eventually(lambda: len(gateway.subscribes) >= times, within_s=60)
    return gateway.subscribes[times - 1]


async def shown(page: Page, count: int) -> list[str]:
    async def has_come() -> bool:
        return bool(await page.evaluate(f"shown.length >= {count}"))

    await eventually(has_come, within_s=60)
    return list(await page.evaluate("shown"))


async def waited_ms(page: Page) -> list[Any]:
    return list(await page.evaluate("waits"))


async def test_it_resumes_and_says_when_something_is_missing(page: Page, gateway: FakeGateway) -> None:
    assert "last-message-id" not in await subscribed(gateway, 1)
    await gateway.send("1000-1", "first")
    assert await shown(page, 1) == ["first"]
    await gateway.drop()
    assert (await subscribed(gateway, 2))["last-message-id"] == "1000-1"
    await gateway.send("1000-9", "ninth", recovered="false")
    assert await shown(page, 3) == ["first", "refetched", "ninth"]


async def test_an_id_of_one_user_and_destination_is_not_sent_for_another(page: Page, gateway: FakeGateway) -> None:
    await subscribed(gateway, 1)
    await gateway.send("1000-1", "hers")
    await shown(page, 1)
    for number, call in enumerate(('receive("bob", "/queue/demo")', 'receive("alice", "/queue/other")'), start=2):
        await page.evaluate(f"void {call}")
        assert "last-message-id" not in await subscribed(gateway, number)
    await page.evaluate('void receive("alice", "/queue/demo")')
    assert (await subscribed(gateway, 4))["last-message-id"] == "1000-1"


async def test_it_waits_longer_each_time_and_begins_anew_once_it_was_connected(
    page: Page, gateway: FakeGateway
) -> None:
    await subscribed(gateway, 1)
    gateway.is_away = True
    await gateway.drop()
    await eventually(lambda: gateway.turned_away >= 7, within_s=60)
    assert (await waited_ms(page))[:7] == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    gateway.is_away = False
    await subscribed(gateway, 2)
    before = len(await waited_ms(page))
    await gateway.drop()
    await subscribed(gateway, 3)
    assert (await waited_ms(page))[before:] == [1_000]


async def test_it_stops_where_the_same_attempt_would_fail_again(page: Page, gateway: FakeGateway) -> None:
    await subscribed(gateway, 1)
    gateway.refusal, gateway.refusal_code = "bad destination", close_codes.BAD_DESTINATION.code
    await gateway.drop()
    await eventually(lambda: gateway.refusals == 1, within_s=60)
    await page.evaluate("new Promise((resolve) => later(resolve, 200))")  # 200 times as long as it would wait
    assert gateway.refusals == 1


async def test_it_tries_another_token_after_a_refused_one_and_never_the_same(page: Page, gateway: FakeGateway) -> None:
    await subscribed(gateway, 1)
    gateway.refused_token = "alice-token-2"
    await page.evaluate('newTokens.push("token-2", "token-3", "token-2", "token-2")')
    await gateway.drop()
    await subscribed(gateway, 2)
    assert gateway.tokens[1:] == ["alice-token-2", "alice-token-3"]
    await gateway.drop()
    await page.wait_for_function("newTokens.length === 1")
    await page.evaluate("new Promise((resolve) => later(resolve, 200))")
    assert gateway.tokens[3:] == [], "the refused one came again"
