"""What becomes of requests that are under way when a program's admin server closes."""

import asyncio

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from prometheus_client import CollectorRegistry

from pushcluster_runtime import admin
from pushcluster_runtime.admin import AdminServer, serve


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_request_under_way_is_waited_for_and_not_for_ever(
    *, is_answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "SHUTDOWN_TIMEOUT_S", 5.0 if is_answered else 0.1)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: web.Request) -> web.Response:
        began.set()
        await go_on.wait()
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", work)
    runner, port = await serve(app, "127.0.0.1", 0)

    async def ask() -> str:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
            return await response.text()

    asking = asyncio.create_task(ask())
    await began.wait()
    closing = asyncio.create_task(runner.cleanup())
    if is_answered:
        await asyncio.sleep(0.05)
        go_on.set()
        assert await asking == "done"
    else:
        with pytest.raises(ClientConnectionError):
            await asyncio.wait_for(asking, 3)
    await asyncio.wait_for(closing, 3)


async def test_metrics_tell_what_the_process_itself_uses_under_the_standard_names() -> None:
    server = AdminServer("127.0.0.1", 0, lambda: (True, "ready"), CollectorRegistry())
    port = await server.start()
    try:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            text = await response.text()
    finally:
        await server.close()
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"):
        assert f"# HELP process_{name} " in text
