import socket
from pathlib import Path

import pytest

from local_run.containers import LOWEST_PORT, free_port


def test_a_free_port_is_none_that_an_outgoing_connection_may_be_given() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    ports = {free_port() for _ in range(200)}

    assert all(LOWEST_PORT <= port < first_outgoing for port in ports)
    assert len(ports) > 100  # two programs that ask at once get different ones


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        choices = [port, port, free_port()]

        def choose(_low: int, _high: int) -> int:
            tried.append(choices.pop(0))
            return tried[-1]

        monkeypatch.setattr("random.randrange", choose)
        found = free_port()

    assert found != port
    assert tried == [port, port, found]
