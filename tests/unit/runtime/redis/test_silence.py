"""When a broker that says nothing is given up. No broker: what it has told, and when, is played."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import Unavailable
from pushcluster_runtime.amqp import AmqpConnection
from pushcluster_runtime.amqp import channel as channel_module
from pushcluster_runtime.amqp.channel import ANSWER_TIMEOUT_S, CONFIRM_TIMEOUT_S, AmqpChannel
from tests.support.clock import MovedClock, moved_clock
from tests.support.waiting import eventually


class PlayedConnection:
    """What a channel asks of pika's connection."""

    consumers: dict[tuple[int, str], Any]
    frame_max = 131_072

    def send(self, frames: bytes) -> None:
        """Take a publish, and never confirm it."""


class PlayedChannel:
    """What a channel asks of pika's."""

    is_open = True
    channel_number = 1

    def __init__(self) -> None:
        self.connection = PlayedConnection()

    def add_on_cancel_callback(self, callback: object) -> None:
        """Cancel no consumer."""

    def add_on_close_callback(self, callback: object) -> None:
        """Stay open."""

    def basic_cancel(self) -> None:
        """Is not called."""

    def close(self) -> None:
        """Take it, and never answer it."""

    def queue_delete(self, queue: str, callback: object) -> None:
        """Take a call, and never answer it."""


class PlayedRawConnection:
    """What opening a channel asks of pika's connection: it is told, and the broker answers when the test likes."""

    def __init__(self) -> None:
        self.opened: Callable[[object], None] | None = None
        self.aborted = ""

    def channel(self, on_open_callback: Callable[[object], None]) -> PlayedChannel:
        self.opened = on_open_callback
        return PlayedChannel()

    def abort(self, reason: str) -> None:
        self.aborted = reason


class Bench:
    """A connection with one channel, whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.amqp = AmqpConnection()
        self.channel = AmqpChannel(cast(Any, PlayedChannel()))
        clock = cast(Any, self)
        self.amqp._loop = self.channel._loop = clock
        self.amqp._channels.add(self.channel)

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def find_silence(self) -> str:
        return self.channel.find_silence(self.now, blocked=self.amqp.blocked)

    def block(self, *, for_s: float) -> None:
        self.amqp._set_blocked(blocked=True)
        self.now += for_s
        assert self.find_silence() == "", "a broker that does not read has nothing to answer"
        self.amqp._set_blocked(blocked=False)


@asynccontextmanager
async def opening_until_the_last_moment() -> AsyncIterator[tuple[MovedClock, PlayedRawConnection, asyncio.Task[Any]]]:
    """Ask for a channel, and let all but a millisecond of the time for it pass."""
    amqp, raw = AmqpConnection(), PlayedRawConnection()
    amqp._connection = cast(Any, raw)
    with moved_clock() as clock:
        opening = asyncio.create_task(amqp.channel())
        await clock.move(0)
        await clock.move(ANSWER_TIMEOUT_S - 0.001)
        yield clock, raw, opening


async def test_a_channel_that_the_broker_does_not_open_is_given_up_with_its_connection_in_time_and_not_before() -> None:
    async with opening_until_the_last_moment() as (clock, raw, opening):
        assert (opening.done(), raw.aborted) == (False, "")
        await clock.move(0.001)
        assert opening.done()
        with pytest.raises(Unavailable, match="no answer within 15 s"):
            await opening
    assert raw.aborted == "no answer within 15 s"


async def test_a_channel_that_is_opened_in_the_last_moment_is_there() -> None:
    async with opening_until_the_last_moment() as (_, raw, opening):
        assert raw.opened is not None
        raw.opened(None)
        assert isinstance(await opening, AmqpChannel)


async def test_a_broker_that_does_not_open_the_connection_is_given_up_in_time_and_not_before() -> None:
    peers: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(lambda _, writer: peers.append(writer), "127.0.0.1", 0)
    url = f"amqp://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v"
    with moved_clock() as clock:
        opening = asyncio.create_task(AmqpConnection.connect(url, name="test", timeout_s=10))
        await clock.move(0)
        await clock.move(9.999)
        assert not opening.done()
        await clock.move(0.001)
        assert opening.done()
        with pytest.raises(Unavailable, match="did not open the connection within 10 s"):
            await opening
    await eventually(lambda: peers, within_s=5)
    peers[0].close()
    await peers[0].wait_closed()
    listener.close()


async def test_a_polite_close_waits_no_longer_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "CLOSE_TIMEOUT_S", 0.01)
    channel = AmqpChannel(cast(Any, PlayedChannel()))
    await asyncio.wait_for(channel.close(), 2)
    assert not channel.lost.done(), "the broker has not answered"


async def test_a_broker_that_read_nothing_for_long_has_its_full_time_for_confirms_afterwards() -> None:
    bench = Bench()
    bench.channel.publish("", "queue", b"", BasicProperties(), mandatory=False)
    bench.block(for_s=10 * CONFIRM_TIMEOUT_S)
    bench.now += CONFIRM_TIMEOUT_S
    assert bench.find_silence() == ""
    bench.now += 0.001
    assert bench.find_silence() == "no confirm within 30 s"


async def test_a_broker_that_read_nothing_for_long_has_its_full_time_for_answers_afterwards() -> None:
    bench = Bench()
    call = asyncio.create_task(bench.channel.delete_queue("queue"))
    await asyncio.sleep(0)
    bench.block(for_s=10 * ANSWER_TIMEOUT_S)
    bench.now += ANSWER_TIMEOUT_S
    assert bench.find_silence() == ""
    bench.now += 0.001
    assert bench.find_silence() == "no answer within 15 s"
    call.cancel()
