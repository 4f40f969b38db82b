"""How a program starts and ends: settings, logs, uvloop, signals and exit codes."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import uvloop

from pushcluster_contract import env
from pushcluster_contract.errors import InvalidInput
from pushcluster_runtime.garbage import freeze_start
from pushcluster_runtime.logging import LogLevel, configure
from pushcluster_runtime.settings import EnvironmentVariables

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""Something failed that a restart may fix."""
EXIT_SETTINGS: Final = 2
"""A setting is wrong, and a restart will not help. One log line names the variable."""

S = TypeVar("S")

_log = logging.getLogger(__name__)


def run(
    program: str,
    parse_settings: Callable[[EnvironmentVariables], S],
    main: Callable[[S, asyncio.Event], Awaitable[None]],
) -> int:
    """Run a program until it ends, and return its exit code.

    `main` gets the settings and an event, which SIGTERM or SIGINT sets. It then finishes what it has begun and
    returns. A second signal ends the process at once.
    """
    environment = EnvironmentVariables(os.environ)
    try:
        configure(environment.choice(env.LOG_LEVEL, LogLevel, LogLevel.INFO), program=program)
        settings = parse_settings(environment)
    except InvalidInput as error:
        configure(LogLevel.INFO, program=program)
        _log.error("the program cannot start: %s", error)
        return EXIT_SETTINGS
    freeze_start()
    try:
        uvloop.run(_until_signal(settings, main))
    except InvalidInput as error:
        _log.error("the program cannot go on: %s", error)
        return EXIT_SETTINGS
    except Exception:
        _log.exception("the program failed; a restart may help")
        return EXIT_FAILED
    return EXIT_OK


async def _until_signal(settings: S, main: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if stop.is_set():
            _log.warning("a second signal came; the program ends at once", extra={"signal": name})
            sys.stderr.flush()
            os._exit(EXIT_FAILED)
        _log.info("a signal came; the program finishes what it has begun and ends", extra={"signal": name})
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each.name)
    await main(settings, stop)
