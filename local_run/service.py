"""Takes the place of a Kubernetes Service: one port in front of several. It uses them in turn and skips dead ones."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

CHUNK_BYTES: Final = 65_536
HOST: Final = "127.0.0.1"


class Service:
    """Forwards connections, and does not look at what they carry."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._targets: tuple[int, ...] = ()
        self._next = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int, targets: Sequence[int]) -> None:
        """Listen on `port` and forward to the ports `targets`."""
        self._targets = tuple(targets)
        self._server = await asyncio.start_server(self._accept, HOST, port)

    async def close(self) -> None:
        """Stop listening, and cut all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            # Only `close` cancels. asyncio before 3.12 would log a cancelled task with a traceback.
            with contextlib.suppress(asyncio.CancelledError):
                target = await self._connect()
                if target is not None:
                    await _forward(reader, writer, *target)
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._targets:
            port = self._targets[self._next % len(self._targets)]
            self._next += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(HOST, port)
        return None


async def _forward(
    client_reader: asyncio.StreamReader,
    client_writer: asyncio.StreamWriter,
    target_reader: asyncio.StreamReader,
    target_writer: asyncio.StreamWriter,
) -> None:
    pumps = [
        asyncio.create_task(_pump(client_reader, target_writer)),
        asyncio.create_task(_pump(target_reader, client_writer)),
    ]
    try:
        # If one side ends, end the other too, because a client must notice that its gateway is gone.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        target_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
