"""The command line of `python -m pushcluster_dispatcher rejected`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.topology import REFUSED_QUEUE, REJECTED_QUEUE
from pushcluster_dispatcher.rejected.messages import RejectedMessage, build_replay, printable
from pushcluster_dispatcher.rejected.queue import RejectedQueue, opened

QUEUES: Final = (REJECTED_QUEUE, REFUSED_QUEUE)
DEFAULT_LIMIT: Final = 1_000
"""Messages that one call looks at. They go to the end of the queue, so the next call sees those behind them first."""
MAX_LIMIT: Final = 100_000
"""As many as the queue holds."""
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments after `rejected`. Exit with 2 when they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m pushcluster_dispatcher rejected", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="one line for each message")
    showing = commands.add_parser("show", help="everything about some messages, as JSON")
    replaying = commands.add_parser("replay", help="publish messages again, and remove them from the queue")
    showing.add_argument("ids", nargs="+", metavar="ID", help="as `list` shows it")
    chosen = replaying.add_mutually_exclusive_group(required=True)
    chosen.add_argument("ids", nargs="*", default=[], metavar="ID", help="as `list` shows it")
    chosen.add_argument("--all", action="store_true", help="every message")
    replaying.add_argument("--user", help="the user to publish to, instead of the one in the message")
    replaying.add_argument("--destination", help="the destination to publish to, instead of the one in the message")
    for each in (listing, showing, replaying):
        each.add_argument("--queue", choices=QUEUES, default=REJECTED_QUEUE, help="malformed, or refused by clients")
        each.add_argument("--limit", type=_limit, default=DEFAULT_LIMIT, help="how many messages to look at")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str], amqp_url: str) -> int:
    """Do what the arguments say, and return the exit code."""
    parsed = parse_arguments(arguments)
    try:
        return uvloop.run(_run(parsed, amqp_url))
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED


async def _run(parsed: argparse.Namespace, amqp_url: str) -> int:
    async with opened(amqp_url, parsed.queue) as queue:
        if parsed.command == "replay":
            return await _replay(queue, parsed)
        async for message, _ in queue.read(parsed.limit):
            if parsed.command == "list":
                _say(message.summarize())
            elif message.id in parsed.ids:
                _say(message.describe())
    return EXIT_OK


async def _replay(queue: RejectedQueue, parsed: argparse.Namespace) -> int:
    """Replay what was chosen. What cannot be replayed stays in the queue, and its line says why."""
    failed = 0
    async for message, tag in queue.read(parsed.limit):
        if parsed.all or message.id in parsed.ids:
            failed += not await _replay_one(queue, message, tag, parsed)
    return EXIT_FAILED if failed else EXIT_OK


async def _replay_one(queue: RejectedQueue, message: RejectedMessage, tag: int, parsed: argparse.Namespace) -> bool:
    try:
        replay = build_replay(message, user=parsed.user, destination=parsed.destination)
    except InvalidInput as error:
        _say(f"{message.id}\tleft\t{printable(str(error))}")
        return False
    await queue.replay(tag, replay)
    _say(f"{message.id}\treplayed\t{printable(replay.user)}\t{replay.destination}\t{replay.message_id}")
    return True


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
