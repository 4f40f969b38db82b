"""What the page makes of what a gateway sends, in a real browser, with a gateway that does as it is told."""

import re
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from playwright.async_api import Page, Route, expect

from local_run.plane import STOMPJS_DIR
from pushcluster_gateway import close_codes
from pushcluster_page.server import create_app
from pushcluster_page.settings import Settings
from tests.support.browser import open_page
from tests.support.fake_gateway import FakeGateway, running, running_gateway
from tests.support.waiting import eventually

ALICE = "[data-user=alice].inbox"
WIDTHS_PX = (390, 768, 1280)
"""A telephone, a tablet, a desk."""
TEXT_OUTSIDE_ITS_BOX = """
  () => [...document.querySelectorAll("button, #recipients span, .inbox > header > *")].flatMap((element) => {
    const text = document.createRange();
    text.selectNodeContents(element);
    const box = element.getBoundingClientRect();
    const isOutside = ({ left, right, top, bottom }) =>
      left < box.left - 1 || right > box.right + 1 || top < box.top - 1 || bottom > box.bottom + 1;
    return [...text.getClientRects()].some(isOutside) ? [element.textContent] : [];
  })
"""
A_MINUTE_MS = 60_000


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with running_gateway() as made:
        yield made


@pytest.fixture
def users() -> str:
    return "alice"


@pytest.fixture
async def page(gateway: FakeGateway, users: str) -> AsyncIterator[Page]:
    async def accept(_: web.Request) -> web.Response:
        return web.json_response({}, status=202)

    dispatcher = web.Application()
    dispatcher.router.add_post("/v1/users/{user}/messages", accept)
    async with running(dispatcher) as api_port:
        environ = {
            "PAGE_WS_URL": gateway.url,
            "PAGE_API_URL": f"http://127.0.0.1:{api_port}",
            "PAGE_USERS": users,
            "PAGE_API_KEY": "key",
            "PAGE_JWT_KEY": "k" * 32,
            "PAGE_STOMPJS_DIR": str(STOMPJS_DIR),
        }
        async with (
            running(create_app(Settings.load(environ))) as port,
            open_page(f"http://127.0.0.1:{port}/") as opened,
        ):
            yield opened


async def until_connected(page: Page, times: int = 1) -> None:
    await expect(page.locator(f"{ALICE}[data-state=connected][data-connections='{times}']")).to_be_visible()


async def test_the_page_shows_which_gateway_holds_the_user_and_by_which_key_messages_come(page: Page) -> None:
    await until_connected(page)
    await expect(page.locator(f"{ALICE} .state")).to_have_text("Connected")
    await expect(page.locator(f"{ALICE} .gateway")).to_have_text("demo-gateway-0")
    await expect(page.locator(f"{ALICE} .routing-key")).to_have_text("demo-user" + "a" * 26)


async def test_the_page_resumes_after_the_last_message_it_got(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    assert "last-message-id" not in gateway.subscribes[0]
    await gateway.send("1000-1", "first")
    await expect(page.locator("#inbox-alice li")).to_have_count(1)
    await gateway.drop()
    await until_connected(page, times=2)
    assert gateway.subscribes[1]["last-message-id"] == "1000-1"


async def test_a_message_that_comes_again_is_shown_once(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    await gateway.send("1000-1", "first")
    await gateway.send("1000-2", "second")
    await gateway.send("1000-1", "first", redelivered="true")
    await gateway.send("1000-2", "second", redelivered="true")
    await gateway.send("1000-10", "tenth", redelivered="true")
    await expect(page.locator("#inbox-alice li .body")).to_have_text(["first", "second", "tenth"])
    await expect(page.locator("#inbox-alice li:last-child .tag").last).to_have_text("redelivered")


async def test_the_page_says_how_long_a_message_waited(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    now_ms = int(time.time() * 1_000)
    await gateway.send(f"{now_ms - A_MINUTE_MS}-1", "old")
    # By an id of the near future: what is shown within a second has no tag, and a busy browser may need longer.
    await gateway.send(f"{now_ms + A_MINUTE_MS}-2", "new")
    await expect(page.locator("#inbox-alice li")).to_have_count(2)
    await expect(page.locator("#inbox-alice li:first-child .tag")).to_have_text(re.compile(r"^waited (6|7|8)\d s$"))
    await expect(page.locator("#inbox-alice li:last-child .tag")).to_have_count(0)


async def test_a_gap_is_said_in_words(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    gateway.receipt_headers = {"recovered": "false"}
    await gateway.drop()
    await until_connected(page, times=2)
    await expect(page.locator(f"{ALICE} .notice")).to_contain_text("Some messages are gone")


async def test_a_refusal_of_the_gateway_is_shown_and_tried_again(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    gateway.refusal = "the registry is away, try again"
    await gateway.drop()
    await expect(page.locator(f"{ALICE} .notice")).to_have_text(gateway.refusal)
    gateway.refusal = ""
    await until_connected(page, times=2)
    await expect(page.locator(f"{ALICE} .notice")).to_be_hidden()


async def test_a_refusal_that_the_same_attempt_would_meet_again_ends_the_attempts(
    page: Page, gateway: FakeGateway
) -> None:
    await until_connected(page)
    gateway.refusal, gateway.refusal_code = "bad destination", close_codes.BAD_DESTINATION.code
    await gateway.drop()
    await expect(page.locator(f"{ALICE} .state")).to_have_text("Offline")
    await expect(page.locator(f"{ALICE} .notice")).to_have_text(gateway.refusal)
    assert gateway.refusals == 1
    gateway.refusal = ""
    await page.get_by_role("button", name="Go online").click()
    await until_connected(page, times=2)


async def test_after_a_refused_token_another_one_is_tried_and_never_the_same(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    tokens = ["bad", "good", "bad"]

    async def give_token(route: Route) -> None:
        await route.fulfill(json={"token": tokens.pop(0)})

    await page.route("**/token?*", give_token)
    gateway.refused_token = "bad"
    await gateway.drop()
    await until_connected(page, times=2)
    assert gateway.tokens[1:] == ["bad", "good"]
    await gateway.drop()
    await expect(page.locator(f"{ALICE} .state")).to_have_text("Offline")
    assert gateway.tokens[3:] == [], "the refused one came again"


async def test_a_user_can_go_offline_and_come_back(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    await page.click(f"{ALICE} .toggle")
    await expect(page.locator(f"{ALICE} .state")).to_have_text("Offline")
    await page.click(f"{ALICE} .toggle")
    await until_connected(page, times=2)
    await eventually(lambda: len(gateway.subscribes) == 2)


async def test_text_from_elsewhere_stays_text(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    await gateway.send("1000-1", "<img src=x onerror=alert(1)>")
    await expect(page.locator("#inbox-alice li .body")).to_have_text("<img src=x onerror=alert(1)>")


async def test_the_page_can_be_used_by_keyboard_alone(page: Page) -> None:
    await until_connected(page)
    await page.focus("input[name=text]")
    await page.keyboard.type("hello")
    await page.keyboard.press("Enter")
    await expect(page.locator("#sent")).to_contain_text("for alice")
    await expect(page.locator("input[name=text]")).to_be_focused()
    await expect(page.locator("input[name=text]")).to_have_value("")


@pytest.mark.parametrize("users", ["alice,bob", "alice,a.user.with.a.long.name@example.com"])
async def test_the_page_fits_every_width_and_its_buttons_hold_their_text(page: Page, gateway: FakeGateway) -> None:
    await until_connected(page)
    await gateway.send("1000-1", "long" * 50)
    await expect(page.locator(".inbox li")).to_have_count(1)
    gateway.refusal = "the registry is away, try again"
    await gateway.drop()
    await expect(page.locator(f"{ALICE}[data-state=reconnecting]")).to_be_visible()
    for width in WIDTHS_PX:
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(TEXT_OUTSIDE_ITS_BOX) == [], width
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= width
