"""Closed connections in the log: every cause is named and counted, and no cause fills the log."""

import logging

import pytest

from pushcluster_gateway.transport.close_log import LINE_INTERVAL_S, CloseLog
from tests.support.fake_services import running_server
from tests.support.stomp_client import StompError, connected


def note(log: CloseLog, cause: str, times: int) -> None:
    for _ in range(times):
        log.note(cause)


def test_the_first_close_has_its_line_at_once_and_later_ones_are_counted() -> None:
    log = CloseLog()
    assert log.take_due(100.0) == {}
    note(log, "not_authenticated", 1)
    assert log.take_due(100.25) == {"not_authenticated": 1}
    note(log, "not_authenticated", 31_472)
    assert log.take_due(100.25 + LINE_INTERVAL_S - 0.01) == {}
    assert log.take_due(100.25 + LINE_INTERVAL_S) == {"not_authenticated": 31_472}
    assert log.take_due(200.0) == {}


def test_a_cause_does_not_wait_for_another() -> None:
    log = CloseLog()
    note(log, "not_authenticated", 3)
    assert log.take_due(100.0) == {"not_authenticated": 3}
    note(log, "not_authenticated", 1)
    note(log, "slow_consumer", 2)
    assert log.take_due(101.0) == {"slow_consumer": 2}
    assert log.take_due(100.0 + LINE_INTERVAL_S) == {"not_authenticated": 1}


async def test_a_server_logs_each_cause_once_in_a_while_and_the_rest_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    def said() -> list[tuple[str, int]]:
        return [
            (record.__dict__["cause"], record.__dict__["count"])
            for record in caplog.records
            if record.getMessage() == "connections closed"
        ]

    async with running_server(manual_clock=True) as server:
        for _ in range(2):
            await refused(server.url)
        await server.pass_time_until(lambda: server.services.metrics.closes["not_authenticated"] == 2, within_s=5)
        await server.pass_time_until(said, within_s=1)
        for _ in range(3):
            await refused(server.url)
        await server.pass_time_until(lambda: server.services.metrics.closes["not_authenticated"] == 5, within_s=5)
        assert said() == [("not_authenticated", 2)]
        await server.pass_time(LINE_INTERVAL_S)
        assert said() == [("not_authenticated", 2), ("not_authenticated", 3)]
        await refused(server.url)
    assert said()[2:] == [("not_authenticated", 1)]


async def refused(url: str) -> None:
    with pytest.raises(StompError):
        async with connected(url, token="no token"):
            pass
