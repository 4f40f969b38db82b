"""A thousand clients of which one reads nothing: the others get everything, and the gateway stays small."""

import asyncio
from pathlib import Path
from typing import Any, Final

from local_run.containers import free_port
from pushcluster_gateway.limits import Limits
from tests.support.gateway_process import gateway_process
from tests.support.gateways import Backend, environment_of, token
from tests.support.stomp_client import StompClient, connected
from tests.support.waiting import eventually

FAST: Final = 999
ROUNDS: Final = 5
FLOOD_MESSAGES: Final = 1_200
FLOOD_BYTES: Final = 32_768
"""A message; together many times what the kernel's buffers, the outbox and a page of the log hold."""
MAX_GROWTH_BYTES: Final = 16 * 1_048_576
"""What the gateway may grow by while it holds 1,000 clients and a flood of 39 MB for one of them."""
MAX_HELD_BYTES: Final = Limits().max_outbox_bytes + FLOOD_BYTES + 1_000
"""Its outbox, and the last frame with its headers, which may exceed it."""


def resident_bytes(pid: int, what: str) -> int:
    """Return VmRSS or VmHWM, the highest there ever was."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{what}:")]
    return int(value) * 1_024


async def read_metric(port: int, name: str) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    values = [line.split()[-1] for line in text.splitlines() if line.startswith(f"pushcluster_gateway_{name} ")]
    return float(values[0]) if values else 0.0


async def connect_all(url: str, users: list[str]) -> list[StompClient]:
    at_once = asyncio.Semaphore(50)

    async def connect(user: str) -> StompClient:
        async with at_once:
            client = await StompClient.connect(url, token=token(user))
            await client.subscribe("/user/queue/demo")
            return client

    return list(await asyncio.gather(*map(connect, users)))


async def test_one_client_in_a_thousand_that_reads_nothing_is_closed_and_nobody_else_feels_it(
    plane: Any, back: Backend
) -> None:
    back.max_entries = 10_000
    admin_port = free_port()
    async with gateway_process(environment_of(plane, ADMIN_PORT=str(admin_port))) as gateway:
        await eventually(lambda: gateway.has_logged("connected to RabbitMQ"))
        users = [f"user{n}" for n in range(FAST)]
        clients = await connect_all(gateway.url, users)
        slow = await StompClient.connect(gateway.url, token=token("slow"))
        await slow.subscribe("/user/queue/demo")
        pid = gateway.process.pid
        before = resident_bytes(pid, "VmRSS")

        slow.socket.transport.pause_reading()
        for start in range(0, FLOOD_MESSAGES, 40):
            numbers = range(start, min(start + 40, FLOOD_MESSAGES))
            await asyncio.gather(*(back.push("slow", f"{n} ".encode().ljust(FLOOD_BYTES, b"x")) for n in numbers))
        assert 0 < await read_metric(admin_port, "outboxes_bytes") <= MAX_HELD_BYTES
        for number in range(ROUNDS):
            for start in range(0, FAST, 50):
                await asyncio.gather(*(back.push(user, f"{number}") for user in users[start : start + 50]))
        for client in clients:
            assert [m.text for m in await client.next_messages(ROUNDS)] == [str(n) for n in range(ROUNDS)]

        async def slow_one_is_gone() -> bool:
            assert await read_metric(admin_port, 'closes_total{cause="slow_consumer"}') == 1
            return await read_metric(admin_port, "sessions") == FAST

        await eventually(slow_one_is_gone)
        growth = resident_bytes(pid, "VmHWM") - before
        assert growth < MAX_GROWTH_BYTES
        assert not any(client.closed for client in clients)

        slow.socket.transport.resume_reading()
        await slow.wait_closed()
        got = [slow.messages.get_nowait() for _ in range(slow.messages.qsize())]
        assert len(got) < FLOOD_MESSAGES
        async with connected(gateway.url, token=token("slow")) as again:
            await again.subscribe("/user/queue/demo", last_message_id=got[-1]["message-id"] if got else None)
            seen = {message["message-id"] for message in got}
            while len(got) < FLOOD_MESSAGES:
                message = await again.next_message()
                if message["message-id"] not in seen:
                    got.append(message)
                else:
                    assert message["redelivered"] == "true", "its TCP had not acknowledged it"
        assert {int(message.text.split()[0]) for message in got} == set(range(FLOOD_MESSAGES))
        seqs = [int(message["message-id"].partition("-")[2]) for message in got]
        assert seqs == list(range(1, FLOOD_MESSAGES + 1)), "resumed without a gap, in order"
        await asyncio.gather(*(client.close() for client in clients))
