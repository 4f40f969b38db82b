"""The event loop of the image, since sockets, buffers and pauses differ between loops; and an issuer of tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.issuer import Authority, Issuer, running_issuer


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
async def issuer(authority: Authority) -> AsyncIterator[Issuer]:
    async with running_issuer(authority.server_context()) as running:
        yield running
