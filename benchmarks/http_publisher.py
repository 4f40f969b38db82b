"""A back end that publishes over HTTP as cheaply as it can: a bounded number of connections, ready-made requests.

`python -m benchmarks.http_publisher` runs as a child process (see `child.py`). It obeys the commands of `publisher.py`,
and its cost is not counted as the product's.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from benchmarks.child import Handler, run
from benchmarks.pace import wait_until
from benchmarks.stomp_clients import encode_stamp

END_OF_HEAD: Final = b"\r\n\r\n"


def encode_body(stamp: bytes, body_bytes: int) -> bytes:
    """Return a body of this size with the stamp in it. It is JSON, because Centrifuge takes nothing else."""
    return b'"' + stamp + b"." * (body_bytes - len(stamp) - 2) + b'"'


def encode_head(target: str, headers: Mapping[str, str], content_bytes: int) -> bytes:
    """Return the head of a POST."""
    lines = [f"POST {target} HTTP/1.1", "Host: benchmark", f"Content-Length: {content_bytes}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END_OF_HEAD


def encode_batch(target: str, headers: Mapping[str, str], lines: list[bytes]) -> bytes:
    """Return a POST whose body has these lines."""
    body = b"\n".join(lines)
    return encode_head(target, headers, len(body)) + body


def split_answer(data: bytes) -> tuple[int, bytes] | None:
    """Return the status of the first answer and the bytes behind the answer, or None if it is not whole.

    Raises ValueError if its head does not say how long it is.
    """
    head, found, rest = data.partition(END_OF_HEAD)
    if not found:
        return None
    status, length = int(head[9:12]), 0
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
    elif status != 204:
        raise ValueError(f"an answer does not say how long it is: {head!r}")
    return (status, rest[length:]) if len(rest) >= length else None


class Connection(asyncio.Protocol):
    """One connection, on which one request at a time is under way."""

    def __init__(self, publisher: "HttpPublisher") -> None:
        self._publisher = publisher
        self._held = b""
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send a request. Its answer goes to the publisher."""
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._held += data
        answer = split_answer(self._held)
        if answer is not None:
            status, self._held = answer
            self._publisher.note_answer(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._closed.set()
        self._publisher.note_lost(self, exc)

    async def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()


class HttpPublisher:
    """The commands of this child process."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._planned: deque[float] = deque()
        self._all_sent = asyncio.Event()
        self._failure = ""
        self._sent = 0
        self._next = 0
        self._users: list[str] = []
        self._target = ""
        self._headers: Mapping[str, str] = {}
        self._heads: list[bytes] = []
        self._body_bytes = 0
        self._batch = 0

    async def open(
        self,
        *,
        ports: list[int],
        users: list[str],
        body_bytes: int,
        target: str,
        headers: Mapping[str, str],
        connections: int,
        batch: int = 0,
    ) -> None:
        """Connect to the ports in turn. `{user}` in the target stands for the user.

        With `batch`, a request has up to so many messages, one a line, each after its user's name.
        """
        await self.close()
        self._users, self._body_bytes, self._batch = users, body_bytes, batch
        self._target, self._headers = target, headers
        self._heads = [encode_head(target.replace("{user}", user), headers, body_bytes) for user in users]
        self._sent = self._next = 0
        self._failure = ""
        loop = asyncio.get_running_loop()
        for number in range(connections):
            _, each = await loop.create_connection(lambda: Connection(self), "127.0.0.1", ports[number % len(ports)])
            self._connections.add(each)
            self._idle.append(each)

    async def close(self) -> None:
        """Close all connections."""
        connections, self._connections = self._connections, set()
        self._idle.clear()
        self._planned.clear()
        await asyncio.gather(*(each.close() for each in connections))

    async def burst(self, *, count: int) -> int:
        """Publish `count` messages as fast as answers come. Return how many were published since `open`."""
        self._plan([time.monotonic()] * count)
        await self._all_sent.wait()
        self._check()
        return self._sent

    async def steady(self, *, per_s: float, seconds: float) -> Mapping[str, float]:
        """Publish at a rate. Stamps are the planned times, so a wait for a connection counts as latency too."""
        begin = time.monotonic()
        total, planned, lag_s = int(per_s * seconds), 0, 0.0
        while planned < total:
            await wait_until(begin + planned / per_s)
            now = time.monotonic()
            due = min(total, int((now - begin) * per_s) + 1)
            lag_s = max(lag_s, now - begin - planned / per_s)
            self._plan([begin + number / per_s for number in range(planned, due)])
            planned = due
        await self._all_sent.wait()
        self._check()
        return {"sent": total, "seconds": time.monotonic() - begin, "lag_s": lag_s}

    def note_answer(self, connection: Connection, status: int) -> None:
        """Go on after an answer."""
        if not 200 <= status < 300:
            self._fail(f"a request was answered {status}")
        self._idle.append(connection)
        self._pump()

    def note_lost(self, connection: Connection, reason: Exception | None) -> None:
        """Fail, unless the connection was closed here."""
        if connection in self._connections:
            self._fail(f"the server closed a connection: {reason}")

    def _plan(self, stamps: list[float]) -> None:
        self._planned += stamps
        self._all_sent.clear()
        self._pump()

    def _pump(self) -> None:
        while self._planned and self._idle:
            self._idle.popleft().send(self._encode_next())
        if not self._planned or self._failure:
            self._all_sent.set()

    def _encode_next(self) -> bytes:
        if not self._batch:
            head = self._heads[self._next]
            return head + self._encode_body(self._take())
        lines = []
        for _ in range(min(self._batch, len(self._planned))):
            user = self._users[self._next].encode()
            lines.append(user + b" " + self._encode_body(self._take()))
        return encode_batch(self._target, self._headers, lines)

    def _take(self) -> float:
        self._next = (self._next + 1) % len(self._users)
        self._sent += 1
        return self._planned.popleft()

    def _encode_body(self, stamp: float) -> bytes:
        return encode_body(encode_stamp(stamp), self._body_bytes)

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._all_sent.set()

    def _check(self) -> None:
        if self._failure:
            raise ConnectionError(self._failure)


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    publisher = HttpPublisher()
    handlers: list[Handler] = [publisher.open, publisher.close, publisher.burst, publisher.steady]
    return {handler.__name__: handler for handler in handlers}


if __name__ == "__main__":
    run(make_handlers)
