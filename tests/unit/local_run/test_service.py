"""The counterpart of a Kubernetes Service."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local_run.containers import free_port
from local_run.service import HOST, Service


class Target:
    """Greets with its name, then echoes."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.port = free_port()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        writer.write(self.name + b"\n")
        while line := await reader.readline():
            writer.write(line)
        writer.close()


@pytest.fixture
async def targets() -> AsyncIterator[list[Target]]:
    made = [Target(b"one"), Target(b"two")]
    for target in made:
        await target.start()
    yield made
    for target in made:
        await target.stop()


@pytest.fixture
async def port(targets: list[Target]) -> AsyncIterator[int]:
    service, port = Service(), free_port()
    await service.start(port, [target.port for target in targets])
    yield port
    await service.close()


async def greeting(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    line = await reader.readline()
    writer.close()
    return line.strip()


async def test_connections_go_to_each_target_in_turn(port: int) -> None:
    assert [await greeting(port) for _ in range(4)] == [b"one", b"two", b"one", b"two"]


async def test_a_target_that_is_down_is_passed_over(port: int, targets: list[Target]) -> None:
    await targets[0].stop()
    assert {await greeting(port) for _ in range(4)} == {b"two"}


async def test_bytes_travel_both_ways(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    await reader.readline()
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()


async def test_a_client_notices_that_its_target_is_gone(port: int, targets: list[Target]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    assert await reader.readline() == b"one\n"
    await targets[0].stop()
    assert await asyncio.wait_for(reader.read(), timeout=5) == b""
    writer.close()


async def test_a_client_is_closed_when_no_target_is_up(port: int, targets: list[Target]) -> None:
    for target in targets:
        await target.stop()
    assert await greeting(port) == b""


async def test_closing_cuts_clients_without_a_word_to_whoever_runs_it(targets: list[Target]) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    service, port = Service(), free_port()
    await service.start(port, [target.port for target in targets])
    reader, writer = await asyncio.open_connection(HOST, port)
    await reader.readline()
    await service.close()
    assert await asyncio.wait_for(reader.read(), timeout=5) == b""
    writer.close()
    assert complaints == []
