"""`make run`: says where everything is, and leaves no trace."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_run.containers import OWNER_LABEL
from local_run.docker import docker
from local_run.owner import Owner
from pushcluster_operator.spec.pushcluster import API_VERSION, KIND
from tests.support.waiting import eventually_sync

ROOT = Path(__file__).parent.parent.parent
READY_WITHIN_S = 120
END_WITHIN_S = 60


@contextmanager
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    file = tmp_path / "demo.yaml"
    head = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo", "namespace": "local"}}
    file.write_text(json.dumps({**head, "spec": {}}))
    with subprocess.Popen(
        [sys.executable, "-m", "local_run", "--file", str(file)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        owner = Owner.of(run.pid)
        try:
            yield run, owner
        finally:
            run.kill()


def read_until(run: subprocess.Popen[str], text: str) -> str:
    """Return what the run wrote, up to and with the line that holds `text`."""
    assert run.stdout is not None
    lines: list[str] = []
    for line in run.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    _, errors = run.communicate(timeout=END_WITHIN_S)
    raise AssertionError(f"it ended before it wrote {text!r}:\n{''.join(lines)}\n{errors}")


def press_ctrl_c(run: subprocess.Popen[str]) -> None:
    """Do as a terminal does: the signal goes to the whole process group."""
    os.killpg(run.pid, signal.SIGINT)


def containers_of(owner: Owner) -> list[str]:
    return docker("ps", "--all", "--quiet", f"--filter=label={OWNER_LABEL}={owner}").split()


def assert_no_trace(output: str, owner: Owner, tmp_path: Path) -> None:
    assert containers_of(owner) == []
    assert [path.name for path in tmp_path.iterdir()] == ["demo.yaml"]
    urls = re.findall(r"(?:ws|http|amqp|redis)://\S+", output)
    assert len(urls) >= 8
    for url in urls:
        port = urlsplit(url.rstrip("'")).port
        assert port is not None
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_it_prints_a_line_that_sends_to_alice_and_ctrl_c_leaves_no_trace(tmp_path: Path) -> None:
    with running(tmp_path) as (run, owner):
        output = read_until(run, "curl ")
        assert len(containers_of(owner)) == 2
        sent = subprocess.run(shlex.split(output.splitlines()[-1]), capture_output=True, text=True, check=True)
        assert "error" not in sent.stdout
        logs = re.search(r"logs\s+(\S+)", output)
        assert logs is not None
        assert "demo-gateway-0.log" in {path.name for path in Path(logs[1]).iterdir()}
        page = re.search(r"page\s+(http://\S+)", output)
        assert page is not None
        with urllib.request.urlopen(page[1], timeout=10) as answer:
            assert b"PushCluster" in answer.read()

        press_ctrl_c(run)
        _, errors = run.communicate(timeout=END_WITHIN_S)
        assert (run.returncode, errors) == (0, "")
        assert_no_trace(output, owner, tmp_path)


def test_kill_9_leaves_no_trace_either(tmp_path: Path) -> None:
    with running(tmp_path) as (run, owner):
        output = read_until(run, "curl ")
        run.kill()
        run.wait()
    eventually_sync(lambda: not containers_of(owner))

    def no_trace() -> bool:
        assert_no_trace(output, owner, tmp_path)
        return True

    eventually_sync(no_trace)


def test_ctrl_c_while_it_starts_leaves_no_trace(tmp_path: Path) -> None:
    with running(tmp_path) as (run, owner):
        eventually_sync(lambda: containers_of(owner), READY_WITHIN_S)
        press_ctrl_c(run)
        run.communicate(timeout=END_WITHIN_S)
        assert run.returncode == 0
        assert containers_of(owner) == []
        assert [path.name for path in tmp_path.iterdir()] == ["demo.yaml"]


def test_when_a_part_dies_the_run_says_which_and_ends_with_code_1(tmp_path: Path) -> None:
    with running(tmp_path) as (run, owner):
        read_until(run, "curl ")
        redis = docker(
            "ps", "--quiet", f"--filter=label={OWNER_LABEL}={owner}", "--filter=expose=6379", "--filter=publish=6379"
        )
        assert redis
        docker("kill", redis)
        _, errors = run.communicate(timeout=END_WITHIN_S)
        assert run.returncode == 1
        assert "redis ended" in errors
        assert containers_of(owner) == []


def test_a_spec_that_cannot_be_is_a_sentence_and_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    head = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}}
    file.write_text(json.dumps({**head, "spec": {"gateway": {"replicas": -1}}}))
    command = [sys.executable, "-m", "local_run", "--file", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=END_WITHIN_S, check=False)
    assert ended.returncode == 1
    assert "spec.gateway.replicas" in ended.stderr
    assert "Traceback" not in ended.stderr
