"""What the fast connection says to Redis and makes of its answers. A small server in this process plays Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext

import pytest
from redis.exceptions import NoScriptError, ResponseError

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_runtime.redis.client import SOURCES
from pushcluster_runtime.redis.wire import RedisWire, pack
from tests.support.waiting import eventually
from tests.unit.runtime.test_old_services import Redis, serving


class PlayedRedis(Redis):
    """Notes what it is asked, and gives other answers to the commands in `answers`."""

    version = "7.2.4"

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.answers: dict[bytes, bytes] = {}
        self.serving = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        try:
            with suppress(ConnectionError):
                await super().serve(reader, writer)
        finally:
            writer.close()
            self.serving -= 1

    def answer(self, words: list[bytes]) -> bytes:
        self.asked.append(words)
        return self.answers[words[0]] if words[0] in self.answers else super().answer(words)


@asynccontextmanager
async def connected(redis: PlayedRedis, url: str = "redis://{}/0") -> AsyncIterator[RedisWire]:
    async with serving(redis) as address:
        try:
            wire = await RedisWire.connect(url.format(address), name="dispatcher-0")
            try:
                yield wire
            finally:
                wire.close()
        finally:
            await eventually(lambda: not redis.serving, within_s=5)


@pytest.mark.parametrize(
    ("url", "introduction"),
    [
        ("redis://user:secret@{}/3", [[b"AUTH", b"user", b"secret"], [b"SELECT", b"3"]]),
        ("redis://:secret@{}/0", [[b"AUTH", b"secret"], [b"SELECT", b"0"]]),
        ("redis://{}", []),
    ],
)
async def test_a_connection_says_who_it_is_before_it_is_used(url: str, introduction: list[list[bytes]]) -> None:
    redis = PlayedRedis()
    async with connected(redis, url) as wire:
        assert wire.run_id == "0" * 40
    scripts = [[b"SCRIPT", b"LOAD", source.encode()] for source in SOURCES.values()]
    assert redis.asked == [*introduction, [b"CLIENT", b"SETNAME", b"dispatcher-0"], [b"INFO", b"server"], *scripts]


@pytest.mark.parametrize("refused", [b"AUTH", b"SELECT", b"CLIENT", b"SCRIPT"])
async def test_a_redis_that_refuses_the_introduction_is_unavailable_with_its_own_words(refused: bytes) -> None:
    redis = PlayedRedis()
    redis.answers[refused] = b"-ERR invalid something\r\n"
    with pytest.raises(Unavailable, match="invalid something"):
        async with connected(redis, "redis://:secret@{}/0"):
            pass


async def test_errors_stand_in_the_places_of_their_replies() -> None:
    redis = PlayedRedis()
    async with connected(redis) as wire:
        redis.answers = {
            b"A": b"+fine\r\n",
            b"B": b"-NOSCRIPT No matching script\r\n",
            b"C": b"-OOM command not allowed\r\n",
            b"D": b"-WRONGTYPE Operation\r\n",
            b"E": b":5\r\n",
        }
        replies = await wire.execute([pack(each) for each in "ABCDE"])
    assert [type(each) for each in replies] == [bytes, NoScriptError, Unavailable, ResponseError, int]


async def test_batches_get_their_own_replies_also_when_one_caller_has_left() -> None:
    redis = PlayedRedis()
    async with connected(redis) as wire:
        redis.answers = {name: b"+%b\r\n" % name for name in (b"1", b"2", b"3")}
        first = asyncio.create_task(wire.execute([pack("1"), pack("2")]))
        second = asyncio.create_task(wire.execute([pack("3")]))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [b"3"]
        assert await wire.execute([pack("1"), pack("3")]) == [b"1", b"3"]


async def test_what_is_not_the_protocol_of_redis_ends_the_connection() -> None:
    redis = PlayedRedis()
    async with connected(redis) as wire:
        redis.answers[b"PING"] = b"HTTP/1.1 400 Bad Request\r\n"
        with pytest.raises(Unavailable, match="not in the Redis protocol"):
            await wire.execute([pack("PING")])
        with pytest.raises(Unavailable, match="not in the Redis protocol"):
            await wire.execute([pack("PING")])
        assert "not in the Redis protocol" in await wire.lost


async def test_who_waits_and_who_comes_later_hear_that_the_connection_was_closed() -> None:
    redis = PlayedRedis()
    async with connected(redis) as wire:
        redis.answers[b"PING"] = b""
        waiting = asyncio.create_task(wire.execute([pack("PING")]))
        await asyncio.sleep(0)
        wire.close()
        for each in (waiting, wire.execute([pack("PING")])):
            with pytest.raises(Unavailable, match="Redis: closed"):
                await each


async def test_before_it_is_connected_nothing_is_sent() -> None:
    with pytest.raises(Unavailable, match="not connected"):
        await RedisWire().execute([pack("PING")])


async def test_a_url_of_another_kind_is_refused_without_quoting_it() -> None:
    with pytest.raises(InvalidInput) as raised:
        await RedisWire.connect("http://:secret@host", name="x")
    assert "secret" not in str(raised.value)


async def test_a_port_on_which_nobody_listens_is_unavailable() -> None:
    async with serving(PlayedRedis()) as address:
        pass
    with pytest.raises(Unavailable, match="Redis: "):
        await RedisWire.connect(f"redis://{address}/0", name="x")


@pytest.mark.parametrize(("url", "encrypted", "port"), [("redis://h", False, 6379), ("rediss://h:7000", True, 7000)])
async def test_the_scheme_decides_on_tls(url: str, encrypted: bool, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int, bool]] = []

    async def create_connection(_: object, host: str, port: int, *, ssl: SSLContext | None) -> None:
        tried.append((host, port, ssl is not None))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    with pytest.raises(Unavailable):
        await RedisWire.connect(url, name="x")
    assert tried == [("h", port, encrypted)]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("unix:///run/redis.sock", "must begin with redis:// or rediss://"),
        ("rediss://h?foo=1", "options of the Redis URL cannot be used"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.crt", "options of the Redis URL cannot be used"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_instead_of_another_server_being_asked(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await RedisWire.connect(url, name="x")
