"""A gateway that does as it is told: for tests of what a page makes of what a gateway sends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web

from pushcluster_gateway.close_codes import NOT_AUTHENTICATED
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
        self.refusal_code = int(WSCloseCode.OK)
        """The close code after it."""
        self.refusals = 0
        """How many SUBSCRIBE were refused."""
        self.refused_token = ""
        """A CONNECT with it is refused."""
        self.tokens: list[str] = []
        """What came with each CONNECT."""
        self.is_away = False
        """Whether nobody gets a WebSocket."""
        self.turned_away = 0
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
        if self.is_away:
            self.turned_away += 1
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(protocols=["v12.stomp"])
        await socket.prepare(request)
        async for message in socket:
            if frame := str(message.data).strip("\n"):
                await self._answer(socket, *decode(frame))
        return socket

    async def _answer(self, socket: web.WebSocketResponse, command: str, headers: Headers) -> None:
        if command == "CONNECT":
            token = headers.get("Authorization", "").removeprefix("Bearer ")
            self.tokens.append(token)
            if token == self.refused_token:
                await refuse(socket, NOT_AUTHENTICATED.reason, NOT_AUTHENTICATED.code)
                return
            connected = {"version": "1.2", "heart-beat": "0,0", "session": "a" * 26, "gateway": "demo-gateway-0"}
            await socket.send_str(encode("CONNECTED", connected))
        elif command == "SUBSCRIBE" and self.refusal:
            self.refusals += 1
            await refuse(socket, self.refusal, self.refusal_code)
        elif command == "SUBSCRIBE":
            self.subscribes.append(dict(headers))
            self._sockets.append((socket, headers["id"]))
            if "receipt" in headers:
                await socket.send_str(encode("RECEIPT", {"receipt-id": headers["receipt"], **self.receipt_headers}))
        elif "receipt" in headers:
            await socket.send_str(encode("RECEIPT", {"receipt-id": headers["receipt"]}))


async def refuse(socket: web.WebSocketResponse, reason: str, code: int) -> None:
    """Say why, and close."""
    await socket.send_str(encode("ERROR", {"message": reason}))
    await socket.close(code=code, message=reason.encode())


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
