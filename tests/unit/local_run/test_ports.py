import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local_run import containers
from local_run.containers import LOWEST_PORT, free_port


def test_a_free_port_is_none_that_an_outgoing_connection_may_be_given() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    ports = {free_port() for _ in range(200)}

    assert all(LOWEST_PORT <= port < first_outgoing for port in ports)
    assert len(ports) == 200


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        choices = [port, port, free_port()]
        monkeypatch.setattr(containers, "_given_ports", set())

        def choose(_low: int, _high: int) -> int:
            tried.append(choices.pop(0))
            return tried[-1]

        monkeypatch.setattr("random.randrange", choose)
        found = free_port()

    assert found != port
    assert tried == [port, port, found]


def test_a_port_is_given_to_one_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nobody listens yet: a plane has about ten ports before its first service starts."""
    drawn = iter([20_001, 20_001, 20_002])
    monkeypatch.setattr(containers, "_given_ports", set())
    monkeypatch.setattr(containers, "is_free", lambda _: True)
    monkeypatch.setattr(containers, "_claim", lambda _: True)
    monkeypatch.setattr("random.randrange", lambda *_: next(drawn))
    assert [free_port(), free_port()] == [20_001, 20_002]


OTHER_PROCESS = """
import random, sys
from local_run.containers import free_port
drawn = iter(map(int, sys.argv[1:]))
random.randrange = lambda *_: next(drawn)
print(free_port())
"""


def test_no_other_process_is_given_the_port_of_a_service_that_is_stopped() -> None:
    taken, following = free_port(), free_port()
    choices = [str(taken), str(following), str(LOWEST_PORT - 1)]
    command = [sys.executable, "-c", OTHER_PROCESS, *choices]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(found) == LOWEST_PORT - 1
