"""The sample page in a real browser, against gateways on kind."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from demo.kubectl import BUILD
from demo.publish import publish_http
from demo.story import DESTINATION, apply_page
from tests.e2e.push_cluster import PushCluster
from tests.support.browser import open_page

RECONNECT_MS = 60_000


@pytest.fixture(scope="module")
def page_url(shared: PushCluster) -> str:
    shared.wait_ready()
    apply_page(shared.host, shared.kubectl, shared.access)
    return shared.access.page_url


async def test_a_message_appears_in_exactly_one_inbox_and_the_page_outlives_its_gateway(
    shared: PushCluster, page_url: str
) -> None:
    async with open_page(page_url) as page:
        alice, bob = page.locator("#inbox-alice"), page.locator("#inbox-bob")
        for inbox in (alice, bob):
            await expect(inbox.locator(".state")).to_have_text("Connected", timeout=RECONNECT_MS)

        await page.get_by_label("alice", exact=True).check()
        await page.get_by_label("Message").first.fill("for alice alone")
        await page.get_by_role("button", name="Send").click()
        await expect(alice.locator("li .body")).to_have_text(["for alice alone"])
        await publish_http(shared.access, "bob", DESTINATION, "for bob alone")
        await expect(bob.locator("li .body")).to_have_text(["for bob alone"])

        gateway = await alice.locator(".gateway").inner_text()
        assert re.fullmatch(r"demo-gateway-[a-z0-9-]+", gateway)
        await asyncio.to_thread(shared.kubectl, "delete", "pod", gateway, "--grace-period=0", "--force")
        await publish_http(shared.access, "alice", DESTINATION, "sent meanwhile")

        await expect(alice.locator("li .body")).to_have_text(
            ["for alice alone", "sent meanwhile"], timeout=RECONNECT_MS
        )
        await expect(alice.locator(".gateway")).not_to_have_text(gateway)
        await expect(bob.locator("li .body")).to_have_text(["for bob alone"])
        await page.screenshot(path=BUILD / "page.png", full_page=True)
