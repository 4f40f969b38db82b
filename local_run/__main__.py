"""`python -m local_run`: start the data plane, print where everything is, and remove it at Ctrl-C."""

import argparse
import asyncio
import contextlib
import itertools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from local_run.containers import is_free
from local_run.plane import LocalPlane
from pushcluster_contract.errors import PushClusterError

SAMPLE: Final = Path("manifests/samples/demo.yaml")
FIRST_PORT: Final = 28_080
"""The first port to try. Ports start here, so that a front end under development finds the same ones at each run."""


def main() -> int:
    """Return 0 after Ctrl-C or SIGTERM, or 1 if something could not start or ended."""
    parser = argparse.ArgumentParser(prog="local_run", description=__doc__)
    parser.add_argument(
        "--file", type=Path, default=SAMPLE, help="YAML file with one PushCluster (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        return asyncio.run(_run(arguments.file))
    except PushClusterError as error:
        print(error, file=sys.stderr)
        return 1


async def _run(file: Path) -> int:
    running = asyncio.create_task(_serve(file))
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return await running
    print("\nStopped. Everything that this run started is removed.")
    return 0


async def _serve(file: Path) -> int:
    started = asyncio.get_running_loop().time()
    print("Starting Redis, RabbitMQ, two gateways, a dispatcher and the sample page (usually 20 s)", flush=True)
    async with LocalPlane.from_file(file, allocate=ports_from(FIRST_PORT)) as plane:
        print(describe(plane, asyncio.get_running_loop().time() - started), flush=True)
        print(await plane.first_failure(), file=sys.stderr)
    return 1


def describe(plane: LocalPlane, seconds: float) -> str:
    """Return a text for people: where everything is, and what to try first."""
    rows = [("page", plane.page.url)] if plane.page else []
    rows += [("gateways", plane.ws_url)]
    rows += [(gateway.name, gateway.url) for gateway in plane.gateways]
    rows += [("API", f"{dispatcher.url}/v1") for dispatcher in plane.dispatchers]
    rows += [
        ("AMQP, publish only", plane.producer_url),
        ("AMQP, all rights", plane.amqp_url),
        ("Redis", plane.redis_url),
    ]
    rows += [(f"metrics of {each.name}", f"{each.admin_url}/metrics") for each in (*plane.gateways, *plane.dispatchers)]
    rows += [("logs", str(plane.logs))]
    width = max(len(name) for name, _ in rows) + 2
    lines = [
        f"PushCluster {plane.cluster.cluster.identity.id} is ready after {seconds:.0f} s. Press Ctrl-C to remove it.",
        "",
    ]
    lines += [f"  {name:<{width}}{url}" for name, url in rows]
    if plane.cluster.jwt_key is not None:
        lines += ["", "A token for alice, valid for a day:", f"  {plane.token('alice')}"]
    if plane.cluster.api_key is not None:
        url = f"{plane.dispatchers[0].url}/v1/users/alice/messages?destination=/queue/demo"
        headers = f"-H 'Authorization: Bearer {plane.cluster.api_key}' -H 'Content-Type: text/plain'"
        curl = f"curl -sS {headers} --data-raw 'Hello, alice' '{url}'"
        lines += ["", "Send a message to alice:", f"  {curl}"]
    return "\n".join(lines)


def ports_from(first: int) -> Callable[[], int]:
    """Return a function that returns the next port of 127.0.0.1 on which nobody listens."""
    candidates = itertools.count(first)

    def allocate() -> int:
        return next(port for port in candidates if is_free(port))

    return allocate


if __name__ == "__main__":
    sys.exit(main())
