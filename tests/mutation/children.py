"""Tests run in forked children: a child starts with all libraries imported, and may do what it likes."""

import importlib
import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

LIBRARIES: Final = (
    "aiohttp.web",
    "cryptography.x509",
    "hiredis",
    "hypothesis.strategies",
    "jsonschema",
    "jwt",
    "kopf",
    "kubernetes.client",
    "pika",
    "prometheus_client",
    "pytest",
    "redis.asyncio",
    "uvloop",
    "websockets",
    "yaml",
)
"""What unit tests and programs import and nobody mutates: imported once, for all children."""

WAITING_FACTOR: Final = 4.0
"""A child may take so many times its processor time by the clock: others may use the machine too."""
MEMORY_BYTES: Final = 4 << 30
"""A mutant that fills the memory fails, and nothing else does."""


def import_libraries() -> None:
    """Import all libraries, so that children need not."""
    for each in LIBRARIES:
        importlib.import_module(each)


def run(call: Callable[[], Any], cpu_s: float) -> Any:
    """Return what the call returns in a child, as JSON brings it; None if it takes too long or the child dies.

    A child that computes for `cpu_s` is ended, however busy the machine is; one that waits, after several times that.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(call, writing, math.ceil(cpu_s))
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + WAITING_FACTOR * cpu_s)
    finally:
        os.close(reading)
        for kill, whom in ((os.killpg, pid), (os.kill, pid)):
            try:
                kill(whom, signal.SIGKILL)
            except ProcessLookupError:
                continue
        os.waitpid(pid, 0)
    return json.loads(answer) if answer.endswith(b"\n") else None


def _read(reading: int, deadline: float) -> bytes:
    answer = b""
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(reading, 1 << 20) if ready else b""
        if not part:
            break
        answer += part
    return answer


def _be_child(call: Callable[[], Any], writing: int, cpu_s: int) -> None:
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        sys.stdin, sys.stdout, sys.stderr = (open(each, mode) for each, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: PTH123, SIM115
        answer = json.dumps(call()).encode() + b"\n"
        while answer:
            answer = answer[os.write(writing, answer) :]
    finally:
        os._exit(0)
