"""`python -m pushcluster_dispatcher rejected`, with real RabbitMQ and Redis."""

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Final

import pytest

from pushcluster_contract import env
from pushcluster_dispatcher.rejected.queue import opened
from tests.support.dispatchers import API_KEY, Logs, Producer, RunningDispatcher, wait_log
from tests.support.planes import Plane
from tests.support.waiting import eventually

READINGS: Final = 25
"""More than 20, after which a quorum queue drops a message that came back so often, unless told otherwise."""


@dataclass
class Command:
    """Runs the command as a person does in a dispatcher's pod."""

    plane: Plane

    async def run(self, *arguments: str) -> tuple[int, list[str]]:
        """Return the exit code, and the lines."""
        environment = {
            env.CLUSTER: self.plane.cluster,
            env.POD_NAME: "dispatcher-0",
            env.AMQP_URL: self.plane.amqp_url,
            env.REDIS_URL: self.plane.redis_url,
            env.API_KEY: API_KEY,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushcluster_dispatcher", "rejected", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode().splitlines()

    async def ids(self) -> list[str]:
        """Return the ids that `list` shows."""
        _, lines = await self.run("list")
        return [line.split("\t")[0] for line in lines]


@pytest.fixture
def command(plane: Plane) -> Command:
    return Command(plane)


async def reject(producing: Producer, dispatcher: RunningDispatcher, *bodies: str) -> None:
    """Publish messages without a destination, and wait until they are put aside."""
    before = await dispatcher.metric("rejected_total", reason="destination")
    for body in bodies:
        producing.send("alice", body, destination=None, message_id=f"id-{body}", headers={"x-kind": body})
    await eventually(lambda: rejected_since(dispatcher, before, len(bodies)))


async def rejected_since(dispatcher: RunningDispatcher, before: float, count: int) -> bool:
    return await dispatcher.metric("rejected_total", reason="destination") == before + count


async def test_a_rejected_message_is_listed_shown_mended_and_replayed(
    command: Command, dispatcher: RunningDispatcher, producing: Producer, logs: Logs
) -> None:
    await reject(producing, dispatcher, "one", "two")
    code, lines = await command.run("list")
    assert code == 0
    assert [line.split("\t")[1:5] for line in lines] == [
        ["alice", "-", "3 B", "id-one"],
        ["alice", "-", "3 B", "id-two"],
    ]
    assert all("destination" in line.split("\t")[5] for line in lines)
    one, two = await command.ids()
    code, shown = await command.run("show", two)
    assert (code, json.loads("\n".join(shown))["body"]) == (0, "two")

    code, lines = await command.run("replay", two)
    assert (code, lines[0].split("\t")[:2]) == (1, [two, "left"])
    assert await command.ids() == [one, two], "what cannot be replayed stays"

    code, lines = await command.run("replay", two, "--destination", "/queue/demo")
    assert (code, lines[0].split("\t")) == (0, [two, "replayed", "alice", "/queue/demo", f"replay-{two}"])
    await wait_log(logs, "alice", ["two"])
    (entry,) = await logs.entries("alice")
    assert (entry.producer_message_id, entry.headers) == (f"replay-{two}", {"x-kind": "two"})
    assert await command.ids() == [one]

    assert (await command.run("replay", "--all", "--user", "bob", "--destination", "/queue/demo"))[0] == 0
    await wait_log(logs, "bob", ["one"])
    assert await command.ids() == []


async def test_reading_takes_nothing_away_however_often(
    plane: Plane, dispatcher: RunningDispatcher, producing: Producer
) -> None:
    bodies = ["one", "two", "three"]
    await reject(producing, dispatcher, *bodies)
    for reading in range(READINGS):
        async with opened(plane.amqp_url, "push.rejected") as queue:
            assert [message.body.decode() async for message, _ in queue.read(10)] == bodies, reading
    async with opened(plane.amqp_url, "push.rejected") as queue:
        assert [message.body.decode() async for message, _ in queue.read(2)] == ["one", "two"]
    async with opened(plane.amqp_url, "push.rejected") as queue:
        assert [message.body.decode() async for message, _ in queue.read(10)] == ["three", "one", "two"]


async def test_a_broker_that_is_away_is_said_in_one_line(command: Command, plane: Plane) -> None:
    away = Command(Plane(plane.cluster, plane.vhost, "amqp://guest:guest@127.0.0.1:1/none", plane.redis_url))
    code, lines = await away.run("list")
    assert (code, lines) == (1, [])
