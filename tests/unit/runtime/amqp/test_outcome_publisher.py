import asyncio
from dataclasses import dataclass, field

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.outcomes import MessageOutcome, OutcomeReport, ReplyAddress
from pushcluster_runtime.amqp import outcome_publisher as reports_module
from pushcluster_runtime.amqp.confirms import ConfirmOutcome
from pushcluster_runtime.amqp.outcome_publisher import OutcomePublisher

ADDRESS = ReplyAddress("q", "c1")
REPORT = OutcomeReport(MessageOutcome.STORED)


@dataclass
class PlayedChannel:
    published: list[tuple[str, str, bytes, BasicProperties, bool]] = field(default_factory=list)
    open: list[asyncio.Future[ConfirmOutcome]] = field(default_factory=list)
    error: Exception | None = None

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[ConfirmOutcome]:
        if self.error is not None:
            raise self.error
        self.published.append((exchange, routing_key, body, properties, mandatory))
        self.open.append(asyncio.get_running_loop().create_future())
        return self.open[-1]


@dataclass
class Bench:
    channel: PlayedChannel | None = field(default_factory=PlayedChannel)
    counted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reports = OutcomePublisher(
            self, on_sent=lambda: self.counted.append("sent"), on_dropped=lambda: self.counted.append("dropped")
        )


async def test_an_outcome_goes_to_the_producers_queue_with_its_correlation_id() -> None:
    bench = Bench()
    assert bench.channel is not None
    bench.reports.tell(ADDRESS, REPORT)
    ((exchange, key, body, properties, mandatory),) = bench.channel.published
    assert (exchange, key, body, mandatory) == ("", "q", b'{"outcome":"stored"}', False)
    assert (properties.type, properties.content_type) == ("pushcluster.outcome", "application/json")
    assert (properties.correlation_id, properties.delivery_mode, properties.reply_to) == ("c1", 1, None)
    bench.channel.open[0].set_result(ConfirmOutcome.CONFIRMED)
    await asyncio.sleep(0)
    assert bench.counted == ["sent"]


async def test_without_a_broker_it_is_dropped_and_counted() -> None:
    bench = Bench(channel=None)
    bench.reports.tell(ADDRESS, REPORT)
    assert bench.counted == ["dropped"]


@pytest.mark.parametrize("error", [Unavailable("gone"), InvalidInput("cannot be encoded")])
async def test_what_cannot_be_published_is_dropped_and_counted(error: Exception) -> None:
    bench = Bench(PlayedChannel(error=error))
    bench.reports.tell(ADDRESS, REPORT)
    assert bench.counted == ["dropped"]


async def test_one_outcome_more_than_may_wait_for_a_confirm_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "MAX_IN_FLIGHT", 2)
    bench = Bench()
    assert bench.channel is not None
    for _ in range(3):
        bench.reports.tell(ADDRESS, REPORT)
    assert (len(bench.channel.published), bench.counted) == (2, ["dropped"])
    bench.channel.open[0].set_exception(Unavailable("lost"))
    bench.channel.open[1].cancel()
    await asyncio.sleep(0)
    assert bench.counted == ["dropped"] * 3
    bench.reports.tell(ADDRESS, REPORT)
    assert len(bench.channel.published) == 3
