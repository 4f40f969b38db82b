"""Mutated conversations against the parser and against a whole Client, for as long as `--fuzz-seconds` says.

Whatever comes: no exception but the gateway's own, no more memory than the limits allow, and every answer is valid
STOMP that ends with at most one ERROR. A failure names its seed; `--fuzz-seed` runs that case alone.
"""

import gc
import itertools
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import jwt
import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.log_entry import LogEntry
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.session.subscription import Subscription
from pushcluster_gateway.stomp.frames import Frame, Version
from tests.support.conversations import Conversation, converse, cut, mutate
from tests.support.fake_services import JWT_KEY, FakeServices
from tests.support.fake_socket import FakeSocket
from tests.support.parsing import parse_pieces
from tests.support.stomp_client import ServerFrame, decode_frame

LIMITS: Final = Limits(
    max_frame_bytes=2_000,
    max_head_bytes=800,
    max_headers=12,
    max_subscriptions=3,
    max_transactions=2,
    max_transaction_frames=5,
    max_calls_in_flight=3,
    max_unacked_messages=4,
    max_outbox_bytes=4_000,
    max_outbox_messages=6,
    max_control_bytes=1_000,
    page_entries=3,
    connect_timeout_s=20,
    server_heart_beat_ms=5_000,
    client_heart_beat_ms=5_000,
)
MAX_BODY_BYTES: Final = 600
MAX_CLIENT_BYTES: Final = 16_000
"""What one Client with everything that it keeps may take under these limits."""
MAX_CALLS: Final = LIMITS.max_calls_in_flight + LIMITS.max_page_reads + 1
"""SUBSCRIBE, UNSUBSCRIBE and NACK; pages of the log; CONNECT."""
MAX_GROWTH_BYTES: Final = 64 << 20
"""Of the process over a whole run: leaks grow with it, bounded things do not."""
TOKEN: Final = jwt.encode({"sub": "alice"}, JWT_KEY, algorithm="HS256")
ALICES: Final = [Destination(kind, name) for kind in ("queue", "topic") for name in ("demo", "other")]


@pytest.fixture(params=["parser", "client"])
def seeds(request: pytest.FixtureRequest) -> Callable[[], Iterator[int]]:
    """Return seeds until this test's share of the time is over."""
    only: int | None = request.config.getoption("--fuzz-seed")
    budget_s: float = request.config.getoption("--fuzz-seconds") / 2

    def draw() -> Iterator[int]:
        if only is not None:
            yield only
            return
        end = time.monotonic() + budget_s
        for seed in itertools.count(secrets.randbits(48)):
            yield seed
            if time.monotonic() > end:
                return

    return draw


def run(seeds: Iterator[int], case: Callable[[int], None]) -> int:
    """Run the case for every seed; return how many there were."""
    count, before = 0, _resident_bytes()
    for seed in seeds:
        count += 1
        try:
            case(seed)
        except Exception as error:
            raise AssertionError(f"run it again with --fuzz-seed={seed}") from error
    gc.collect()
    assert _resident_bytes() - before < MAX_GROWTH_BYTES
    return count


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def conversation(random: Random, *, beyond: int) -> Conversation:
    """Return a valid conversation, but for asking `beyond` the limits."""
    return converse(
        random,
        TOKEN,
        subscriptions=LIMITS.max_subscriptions + beyond,
        transactions=LIMITS.max_transactions + beyond,
        transaction_frames=LIMITS.max_transaction_frames + beyond,
    )


@pytest.mark.parametrize("seeds", ["parser"], indirect=True)
def test_no_bytes_break_the_parser(seeds: Callable[[], Iterator[int]]) -> None:
    assert run(seeds(), fuzz_parser) > 0


def fuzz_parser(seed: int) -> None:
    random = Random(seed)
    data = mutate(random, b"".join(conversation(random, beyond=3).frames))
    version = random.choice([None, *Version])
    assert _parse(cut(random, data, LIMITS.max_frame_bytes), version) == _parse(
        cut(random, data, LIMITS.max_frame_bytes), version
    )


def _parse(pieces: list[bytes], version: Version | None) -> tuple[list[Frame], str]:
    frames, violation = parse_pieces(pieces, version, LIMITS, most_held=LIMITS.max_frame_bytes)
    return frames, "" if violation is None else type(violation).__name__


@pytest.mark.parametrize("seeds", ["client"], indirect=True)
async def test_no_bytes_break_a_client(seeds: Callable[[], Iterator[int]]) -> None:
    assert run(seeds(), lambda seed: ClientCase(seed).run()) > 0


class UnreliableServices(FakeServices):
    """Does nothing until it is told to; then, now and then, says that it cannot."""

    def __init__(self, random: Random) -> None:
        super().__init__(LIMITS)
        self.hold_calls = True
        self.fails = False
        self.now = 1_000.0
        self.clock = lambda: self.now
        self.copies: list[Callable[[], None]] = []
        """On their way."""
        self._random = random

    def register(self, client: Client) -> None:
        self.clients.append(client)
        self._later(partial(self._register, client))

    def _register(self, client: Client) -> None:
        if self._is_away():
            client.fail(close_codes.UNAVAILABLE, "Redis: away")
        elif not client.ended:
            client.registered()

    def _grant_subscribe(self, client: Client, subscription: Subscription) -> None:
        if self._is_away():
            client.fail(close_codes.UNAVAILABLE, "RabbitMQ: away", subscription.receipt)
            client.call_ended()
        else:
            super()._grant_subscribe(client, subscription)

    def _send_copy(self, subscription: Subscription, entry: LogEntry) -> None:
        """Copies are late, doubled and lost."""
        for _ in range(self._random.choice([0, 1, 1, 2])):
            self.copies.append(partial(subscription.copy_arrived, entry))

    def _is_away(self) -> bool:
        return self.fails and self._random.random() < 0.05


class ClientCase:
    """One conversation with one Client; what happens when is drawn from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.services = UnreliableServices(self.random)
        self.socket = FakeSocket(LIMITS, self.services.clock)
        self.mutated = self.random.random() < 0.7
        self.conversation = conversation(self.random, beyond=3 if self.mutated else 0)
        subprotocol = self.random.choice([None, Version(self.conversation.version)])
        self.client = Client(self.services, self.socket, subprotocol, "")
        self.services.fails = self.mutated
        data = b"".join(self.conversation.frames)
        self.pieces = cut(self.random, mutate(self.random, data) if self.mutated else data, LIMITS.max_frame_bytes)
        self.pieces.reverse()

    def run(self) -> None:
        steps = [self._receive] * 5 + [self._answer] * self.random.randrange(4)
        steps += [self._push, self._take, self._take, self._wait, self._stall]
        while self.pieces and not self.client.ended:
            self.random.choice(steps)()
            self._check_bounds()
        assert deep_size(self.client, self.services, self.socket) <= MAX_CLIENT_BYTES
        self.socket.outbox.paused = False
        if self.random.random() < 0.3:
            self.client.lost()
            said = len(self.socket.sent)
            self._finish()
            assert len(self.socket.sent) == said
        else:
            self._finish()
            self._check_answers()
            self.client.lost()
        assert bool(self.services.left) == bool(self.client.user)

    def _finish(self) -> None:
        while self.services.held_calls or self.services.copies:
            self._answer()
            self._take()

    # Steps

    def _receive(self) -> None:
        """A held socket still delivers what its last read has brought."""
        if self.socket.outbox.refuses_input or (self.socket.holds and self.random.random() < 0.9):
            self._answer()
            self._take()
        else:
            self.client.received(self.pieces.pop())

    def _answer(self) -> None:
        for calls in (self.services.held_calls, self.services.copies):
            if calls:
                calls.pop(self.random.randrange(len(calls)))()

    def _push(self) -> None:
        body = self.random.randbytes(self.random.randrange(MAX_BODY_BYTES))
        self.services.push("alice", body, self.random.choice(ALICES))

    def _take(self) -> None:
        self.socket.take()
        if self.socket.outbox.free_bytes:
            self.client.outbox_drained()

    def _wait(self) -> None:
        # A valid conversation is also in time.
        self.services.now += self.random.random() if self.mutated else 0.001
        assert self.client.check_deadlines(self.services.now) > self.services.now

    def _stall(self) -> None:
        self.socket.outbox.paused = self.random.random() < 0.3

    # Judgements

    def _check_bounds(self) -> None:
        client, outbox = self.client, self.socket.outbox
        assert len(client.subscriptions) <= LIMITS.max_subscriptions
        assert len(self.services.held_calls) <= MAX_CALLS
        for subscription in client.subscriptions.values():
            window = subscription.machine.window
            assert window is None or not window.full or not subscription.machine.proceed(MAX_BODY_BYTES)
        waiting = outbox.end_offset - outbox.written_bytes
        answers_to_one_piece = 3 * LIMITS.max_frame_bytes
        one_message = MAX_BODY_BYTES + 400
        assert waiting <= LIMITS.max_outbox_bytes + LIMITS.max_control_bytes + answers_to_one_piece + one_message

    def _check_answers(self) -> None:
        frames = [self._decode(data) for data in self.socket.sent if data != b"\n"]
        commands = [frame.command for frame in frames]
        assert "CONNECTED" not in commands[1:]
        assert "ERROR" not in commands[:-1]
        if "ERROR" in commands:
            assert self.socket.closed is not None
            assert frames[-1]["message"] == self.socket.closed.reason
        if not self.mutated:
            self._check_order(frames)  # else an id may be used twice, and a new subscription begins anew
            assert commands[:1] == ["CONNECTED"]
            assert "ERROR" not in commands, frames[-1]
            receipts = [frame["receipt-id"] for frame in frames if frame.command == "RECEIPT"]
            assert sorted(receipts) == sorted(self.conversation.receipts)

    def _decode(self, data: bytes) -> ServerFrame:
        return decode_frame(data, str(self.client.stomp.version))

    def _check_order(self, frames: list[ServerFrame]) -> None:
        newest: dict[str, int] = {}
        for frame in frames:
            if frame.command == "MESSAGE":
                subscription = frame.headers.get("subscription", frame["destination"])
                seq = int(frame["message-id"].partition("-")[2])
                assert seq > newest.get(subscription, 0)
                newest[subscription] = seq


def deep_size(value: object, *outside: object) -> int:
    """Return the bytes of everything that can be reached from a value, but not through what lies outside."""
    seen = {id(each) for each in (*outside, LIMITS)}
    pending, total = [value], 0
    while pending:
        each = pending.pop()
        if id(each) in seen or isinstance(each, type) or callable(each):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        if isinstance(each, dict):
            pending += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            pending += each
        else:
            names = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
            pending += [getattr(each, name) for name in names if hasattr(each, name)]
            pending += vars(each).values() if hasattr(each, "__dict__") else []
    return total
