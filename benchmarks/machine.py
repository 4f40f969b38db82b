"""What a reader must know about the machine and the versions to judge a figure."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.plane import Services

PACKAGES: Final = ("pika", "redis", "hiredis", "websockets", "uvloop")


async def describe(services: Services, command: str) -> list[tuple[str, str]]:
    """Return the facts as the document lists them."""
    return [
        ("machine", f"{os.cpu_count()} cores, {_processor()}, {_memory_gib():.0f} GiB"),
        ("kernel", platform.release()),
        ("load average at the beginning", " · ".join(f"{load:.1f}" for load in os.getloadavg())),
        ("Python", f"{platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("RabbitMQ", await services.rabbitmq_version()),
        ("Redis", await services.redis_version()),
        ("command", f"`{command}`"),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
