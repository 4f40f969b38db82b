"""`python -m benchmarks [--long] [--only NAME …]`: measure every figure and write docs/benchmarks.md."""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks import (
    amplification,
    api_strangers,
    budget_report,
    connect_storm,
    dispatcher,
    end_to_end,
    gateway_memory,
    gateway_push,
    herd,
    hot_user,
    latency_budget,
    peer_centrifuge,
    plots,
    slow_client,
)
from benchmarks.machine import describe
from benchmarks.plane import Services, running_services
from benchmarks.report import Document, Section

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
INTRODUCTION: Final = (
    "`make bench` writes this page; do not edit it.\n\n"
    "How to read it:\n\n"
    "- Compare ratios rather than absolute numbers. Every figure stands beside something measured in the same run on "
    "the same machine, because only the ratio is comparable between machines.\n"
    "- Processor seconds are the user and system time of the named processes and their descendants, read from /proc. "
    "Publishers and clients run in processes of their own. These are not counted, but they share the cores.\n"
    "- Loads go to 127.0.0.1 and to containers that the run started, and end by themselves.\n"
    "- Other programs may use the machine. If the load average is well above the number of cores, rates, latencies and "
    "storms reflect those programs as much as this software. Processor seconds also rise, because caches are shared."
)

Figure = Callable[[Services], Awaitable[Section]]

SHORT: Final[dict[str, Figure]] = {
    "push": lambda _: gateway_push.run(pushes=150_000),
    "memory": lambda services: gateway_memory.run(services, sessions=10_000),
    "dispatcher": lambda services: dispatcher.run(services, messages=15_000),
    "end-to-end": lambda services: end_to_end.run(services, end_to_end.Load(messages=20_000, steady_s=5)),
    "budget": lambda services: latency_budget.run(services, budget_report.Load()),
    "peers": lambda services: peer_centrifuge.run(services, peer_centrifuge.SHORT),
    "amplification": lambda services: amplification.run(services, amplification.Load(messages=2_400, per_s=800)),
    "storm": lambda services: connect_storm.run(services, sessions=10_000),
    "slow-client": lambda services: slow_client.run(services, slow_client.Load(seconds=4, rounds=8)),
    "hot-user": lambda services: hot_user.run(services, hot_user.Load()),
    "api": lambda services: api_strangers.run(services, api_strangers.Load()),
    "herd": lambda services: herd.run(services, herd.Load(herd=2_000, stay=200)),
}
LONG: Final[dict[str, Figure]] = {
    **SHORT,
    "push": lambda _: gateway_push.run(pushes=4_000_000),
    "dispatcher": lambda services: dispatcher.run(services, messages=200_000),
    "end-to-end": lambda services: end_to_end.run(services, end_to_end.Load(messages=300_000, steady_s=60)),
    "budget": lambda services: latency_budget.run(services, budget_report.Load(rounds=10, seconds=10.0)),
    "peers": lambda services: peer_centrifuge.run(services, peer_centrifuge.LONG),
    "amplification": lambda services: amplification.run(services, amplification.Load(messages=30_000)),
    "slow-client": lambda services: slow_client.run(services, slow_client.Load(seconds=15, rounds=9)),
    "hot-user": lambda services: hot_user.run(services, hot_user.Load(seconds=15, rounds=5)),
    "api": lambda services: api_strangers.run(services, api_strangers.Load(seconds=15)),
    "herd": lambda services: herd.run(services, herd.Load()),
}


async def main(arguments: argparse.Namespace) -> int:
    """Measure the figures. Return 1 if an aim was missed, else 0."""
    figures = LONG if arguments.long else SHORT
    names = arguments.only or list(figures)
    command = "make bench" + (' ARGS="--long"' if arguments.long else "")
    sections: list[Section] = []
    with running_services() as services:
        facts = await describe(services, command)
        for name in names:
            begin = time.monotonic()
            section = await measure(name, figures[name], services)
            sections.append(section)
            print(f"\n{section.render()}\n\n({name}: {time.monotonic() - begin:.0f} s)", flush=True)
            if not arguments.only:
                write(Document("Benchmarks", INTRODUCTION, facts, sections))
    return int(any(section.reached is False for section in sections))


async def measure(name: str, figure: Figure, services: Services) -> Section:
    """Return the section of one figure. If the figure fails, the section says so, and the others are still measured."""
    try:
        return await figure(services)
    except Exception as error:
        logging.getLogger(__name__).exception("not measured: %s", name)
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        return Section(title=name, aim="to be measured", reached=False, text=f"Not measured in this run: {reason}")


def write(document: Document) -> None:
    """Write the document and its pictures."""
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document.render())
    for section in document.sections:
        for plot in section.plots:
            plots.draw(plot, DOCUMENT.parent)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--long", action="store_true", help="more messages and longer runs, about an hour")
    parser.add_argument(
        "--only", action="append", choices=list(SHORT), help="measure only this figure; writes no document"
    )
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.exit(asyncio.run(main(parse_arguments())))
