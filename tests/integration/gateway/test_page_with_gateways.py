"""The sample page on the real data plane, in a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from local_run.plane import LocalPlane, RunningProgram
from tests.support.browser import open_page

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
BODY = {"kind": "PushCluster", "metadata": {"name": "demo", "namespace": "local"}, "spec": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[LocalPlane]:
    async with LocalPlane(BODY) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def page(local: LocalPlane) -> AsyncIterator[Page]:
    assert local.page is not None
    async with open_page(f"{local.page.url}/") as opened:
        for user in ("alice", "bob"):
            await until_connected(opened, user)
        yield opened


async def until_connected(page: Page, user: str, times: int = 1) -> None:
    selector = f".inbox[data-user={user}][data-state=connected][data-connections='{times}']"
    await expect(page.locator(selector)).to_be_visible()


async def send(page: Page, user: str, text: str) -> None:
    await page.get_by_label(user, exact=True).check()
    await page.get_by_label("Message", exact=True).fill(text)
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#send input[name=text]")).to_have_value("")
    await expect(page.locator("#sent")).to_have_attribute("data-outcome", "accepted")


async def fetch_and_lose(route: Route) -> None:
    await route.fetch()
    await route.abort("connectionreset")


async def gateway_of(page: Page, local: LocalPlane, user: str) -> RunningProgram:
    name = await page.locator(f".inbox[data-user={user}] .gateway").inner_text()
    return next(gateway for gateway in local.gateways if gateway.name == name)


async def test_a_message_appears_in_the_named_inbox_and_in_no_other(page: Page) -> None:
    await send(page, "alice", "Your order 4711 has shipped.")
    await send(page, "bob", "The build is green again.")
    await send(page, "alice", "It arrives on Thursday between 9 and 12.")

    shown = page.locator("#inbox-alice li .body")
    await expect(shown).to_have_text(["Your order 4711 has shipped.", "It arrives on Thursday between 9 and 12."])
    await expect(page.locator("#inbox-bob li .body")).to_have_text(["The build is green again."])


async def test_after_kill_9_of_the_gateways_the_page_shows_what_was_sent_meanwhile(
    page: Page, local: LocalPlane
) -> None:
    await send(page, "alice", "Before.")
    await expect(page.locator("#inbox-alice li")).to_have_count(1)
    for gateway in local.gateways:
        await gateway.kill()
    await expect(page.locator(".inbox[data-user=alice] .state")).to_have_text("Reconnecting…")
    await send(page, "alice", "Sent while every gateway was down.")
    for gateway in local.gateways:
        await gateway.start()

    await until_connected(page, "alice", times=2)
    shown = page.locator("#inbox-alice li .body")
    await expect(shown).to_have_text(["Before.", "Sent while every gateway was down."])
    await expect(page.locator("#inbox-bob li")).to_have_count(0)
    await until_connected(page, "bob", times=2)
    await send(page, "bob", "The build is green again.")
    await expect(page.locator("#inbox-bob li")).to_have_count(1)
    (ROOT / "build").mkdir(exist_ok=True)
    await page.screenshot(path=ROOT / "build" / "page.png")


async def test_a_user_whose_gateway_is_killed_goes_on_with_another(page: Page, local: LocalPlane) -> None:
    gateway = await gateway_of(page, local, "alice")
    await gateway.kill()
    await until_connected(page, "alice", times=2)
    assert (await gateway_of(page, local, "alice")).name != gateway.name
    await send(page, "alice", "Through the other gateway.")
    await expect(page.locator("#inbox-alice li .body")).to_have_text(["Through the other gateway."])
    await gateway.start()


async def test_a_text_that_is_sent_again_after_a_lost_confirm_arrives_once(page: Page) -> None:
    await page.route("**/send", fetch_and_lose, times=1)
    await page.get_by_label("alice", exact=True).check()
    await page.get_by_label("Message", exact=True).fill("Once.")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#sent")).to_contain_text("Not confirmed")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#sent")).to_have_attribute("data-outcome", "accepted")
    await send(page, "alice", "After it.")
    await expect(page.locator("#inbox-alice li .body")).to_have_text(["Once.", "After it."])
