"""A gateway that does as it is told: for tests of what a page makes of what a gateway sends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web

from tests.support.waiting import eventually

Headers = Mapping[str, str]


class FakeGateway:
    """One destination, no users: what counts is who is connected and what they asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.subscribes: list[dict[str, str]] = []
        """The headers of every SUBSCRIBE, in order."""
        self.receipt_headers: dict[str, str] = {}
        """Put on the RECEIPT of the next SUBSCRIBE."""
        self.refusal = ""
        """Answered to SUBSCRIBE with an ERROR, when not empty."""
        self._sockets: list[tuple[web.WebSocketResponse, str]] = []

    async def send(self, message_id: str, body: str, **headers: str) -> None:
        """Send a MESSAGE to the latest subscription."""
        await eventually(lambda: self._sockets)
        socket, subscription = self._sockets[-1]
        standard = {"subscription": subscription, "message-id": message_id, "destination": "/user/queue/demo"}
        await socket.send_str(encode("MESSAGE", {**standard, **headers}, body))

    async def drop(self) -> None:
        """Close every connection."""
        sockets, self._sockets = self._sockets, []
        for socket, _ in sockets:
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v12.stomp"])
        await socket.prepare(request)
        async for message in socket:
            if frame := str(message.data).strip("\n"):
                await self._answer(socket, *decode(frame))
        return socket

    async def _answer(self, socket: web.WebSocketResponse, command: str, headers: Headers) -> None:
        if command == "CONNECT":
            connected = {"version": "1.2", "heart-beat": "0,0", "session": "a" * 26, "gateway": "demo-gateway-0"}
            await socket.send_str(encode("CONNECTED", connected))
        elif command == "SUBSCRIBE" and self.refusal:
            await socket.send_str(encode("ERROR", {"message": self.refusal}))
            await socket.close()
        elif command == "SUBSCRIBE":
            self.subscribes.append(dict(headers))
            self._sockets.append((socket, headers["id"]))
            await socket.send_str(encode("RECEIPT", {"receipt-id": headers["receipt"], **self.receipt_headers}))
        elif "receipt" in headers:
            await socket.send_str(encode("RECEIPT", {"receipt-id": headers["receipt"]}))


def encode(command: str, headers: Headers, body: str = "") -> str:
    """Return a frame (STOMP 1.2); header values here need no escapes."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n{body}\0"


def decode(frame: str) -> tuple[str, dict[str, str]]:
    """Return command and headers."""
    command, *lines = frame.partition("\n\n")[0].split("\n")
    return command, dict(line.split(":", 1) for line in lines)


@asynccontextmanager
async def running(app: web.Application, port: int = 0) -> AsyncIterator[int]:
    """Serve an application on 127.0.0.1; yields the port."""
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield int(runner.addresses[0][1])
    finally:
        await asyncio.shield(runner.cleanup())


@asynccontextmanager
async def running_gateway() -> AsyncIterator[FakeGateway]:
    """Serve a FakeGateway on 127.0.0.1."""
    gateway = FakeGateway()
    app = web.Application()
    app.router.add_get("/ws", gateway.serve)
    async with running(app) as port:
        gateway.url = f"ws://127.0.0.1:{port}/ws"
        yield gateway
        await gateway.drop()
