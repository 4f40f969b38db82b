"""Servers that are too old, played by small ones in this process: where they are met, they are named."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pika import frame, spec

from pushcluster_contract.errors import TooOld
from pushcluster_contract.scripts import Script
from pushcluster_runtime.amqp import AmqpConnection
from pushcluster_runtime.redis.client import ScriptRunner, connect
from pushcluster_runtime.redis.wire import RedisWire


class Redis:
    """Answers INFO; before 7.0 there were no scripts with a shebang."""

    version = "6.2.14"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            writer.write(self.answer(words))
        writer.close()

    def answer(self, words: list[bytes]) -> bytes:
        if words[0] == b"INFO":
            info = f"# Server\r\nredis_version:{self.version}\r\nrun_id:{'0' * 40}\r\n"
            return f"${len(info)}\r\n{info}\r\n".encode()
        if words[0] == b"SCRIPT" and self.version < "7":
            return b"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n"
        return b"+OK\r\n"


class RabbitMQ:
    """Opens any connection."""

    version = "4.2.9"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(b"AMQP\0\0\x09\x01"))
        self.send(writer, spec.Connection.Start(server_properties={"product": "RabbitMQ", "version": self.version}))
        answers: dict[type[Any], Any] = {
            spec.Connection.StartOk: spec.Connection.Tune(0, 131_072, 0),
            spec.Connection.Open: spec.Connection.OpenOk(),
            spec.Connection.Close: spec.Connection.CloseOk(),
        }
        received = b""
        while data := await reader.read(4_096):
            received += data
            while (decoded := frame.decode_frame(received))[0]:
                received = received[decoded[0] :]
                method = getattr(decoded[1], "method", None)
                if type(method) in answers:
                    self.send(writer, answers[type(method)])
        writer.close()

    @staticmethod
    def send(writer: asyncio.StreamWriter, method: Any) -> None:
        writer.write(frame.Method(0, method).marshal())


@asynccontextmanager
async def serving(server: Redis | RabbitMQ) -> AsyncIterator[str]:
    """Serve on 127.0.0.1; yields `host:port`."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("version", ["6.2.14", "7.0.15"])
async def test_a_redis_that_is_too_old_is_named_by_both_clients(version: str) -> None:
    server = Redis()
    server.version = version
    async with serving(server) as address:
        client = connect(f"redis://{address}/0", name="test")
        for _ in range(2):
            with pytest.raises(TooOld, match=f"Redis {version} is too old"):
                await ScriptRunner(client).run(Script.REMOVE_SESSION, ["k"], ["a", "b"])
        with pytest.raises(TooOld, match=f"Redis {version} is too old"):
            await RedisWire.connect(f"redis://{address}/0", name="test")
        await client.aclose()


async def test_a_redis_that_was_upgraded_is_used_by_the_same_client() -> None:
    server = Redis()
    async with serving(server) as address:
        client = connect(f"redis://{address}/0", name="test")
        with pytest.raises(TooOld):
            await client.ping()
        server.version = "7.2.4"
        assert await ScriptRunner(client).run(Script.REMOVE_SESSION, ["k"], ["a", "b"]) == b"OK"
        wire = await RedisWire.connect(f"redis://{address}/0", name="test")
        assert wire.run_id == "0" * 40
        wire.close()
        await client.aclose()


async def test_a_rabbitmq_that_is_too_old_is_named_and_left() -> None:
    server = RabbitMQ()
    async with serving(server) as address:
        with pytest.raises(TooOld, match=r"RabbitMQ 4\.2\.9 is too old: 4\.3 or newer is needed"):
            await AmqpConnection.connect(f"amqp://u:p@{address}/v", name="test", timeout_s=5)
        server.version = "4.3.0"
        amqp = await AmqpConnection.connect(f"amqp://u:p@{address}/v", name="test", timeout_s=5)
        await amqp.close()
        assert amqp.lost.done()
