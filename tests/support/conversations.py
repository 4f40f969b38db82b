"""What clients say, valid and not: conversations made by a seeded generator, and mutations of their bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

VERSIONS: Final = ("1.0", "1.1", "1.2")
NAMES: Final = ("demo", "other")
SPICES: Final = (
    *(b"\n", b"\r\n", b"\n\n", b"\n\r\n", b"\0", b":", b"\\", b"\\c", b"\\t", b"\r", b"\xff", b"\xc3", b"\xef\xbb\xbf"),
    *(
        b"content-length:",
        b"content-length:0\n",
        b"content-length:3\n",
        b"content-length:99999999999999\n",
        b"receipt:r\n",
    ),
    *(b"id:1/1000-1\n", b"id:999999999/1-1\n", b"transaction:t\n", b"ack:client\n", b"last-message-id:1000-1\n"),
    *(b"SEND\n\n\0", b"CONNECT\n\n\0", b"DISCONNECT\n\n\0", b"x" * 700, b"a:b\n" * 20, b"\n" * 300, b"\0" * 5),
)
"""What breaks parsers: ends of lines and frames, escapes, lengths, halves of characters, too much of anything."""


@dataclass
class Conversation:
    """Frames of one client, each valid when it comes."""

    random: Random
    version: str
    token: str
    frames: list[bytes] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    """Those that must be answered, in any order."""
    _subscriptions: dict[str, str] = field(default_factory=dict)
    _made: int = 0
    _transactions: list[str] = field(default_factory=list)
    _in_transactions: int = 0

    def add(self, command: str, headers: Mapping[str, str], body: bytes = b"", *, receipt: bool = True) -> None:
        """Write one frame in one of the ways that the version allows."""
        random = self.random
        lines = dict(headers)
        if receipt and random.random() < 0.6:
            self.receipts.append(f"r{len(self.receipts)}:\\é")
            lines["receipt"] = self.receipts[-1]
        if random.random() < 0.2:
            lines["content-length"] = str(len(body))
        eol = "\r\n" if self.version != "1.1" and random.random() < 0.2 else "\n"
        escaped = command != "CONNECT" and self.version != "1.0"
        text = [command, *(_line(name, value, escaped=escaped) for name, value in lines.items())]
        if random.random() < 0.2 and headers:
            text.append(_line(next(iter(headers)), "repeated", escaped=escaped))
        blank = random.choice(["", "\n", "\r\n\n"])
        self.frames.append((blank + eol.join([*text, "", ""])).encode() + body + b"\0")

    def connect(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "host": "here"}
        if self.version != "1.0":
            headers |= {"accept-version": self.version, "heart-beat": self.random.choice(["0,0", "500,0", "0,500"])}
        command = "CONNECT" if self.version == "1.0" else self.random.choice(["CONNECT", "STOMP"])
        self.add(command, headers, receipt=False)

    def subscribe(self, limit: int) -> None:
        if len(self._subscriptions) >= limit:
            return
        self._made += 1
        name = f"s{self._made}"
        headers = {
            "id": name,
            "destination": f"/user/{self.random.choice(['queue', 'topic'])}/{self.random.choice(NAMES)}",
        }
        modes = ["auto", "client"] if self.version == "1.0" else ["auto", "client", "client-individual"]
        mode = self.random.choice([None, *modes])
        if mode is not None:
            headers["ack"] = mode
        if self.random.random() < 0.3:
            headers["last-message-id"] = f"1000-{self.random.randrange(9)}"
        self._subscriptions[name] = str(self._made)
        self.add("SUBSCRIBE", headers)

    def unsubscribe(self) -> None:
        if self._subscriptions:
            name = self.random.choice(list(self._subscriptions))
            del self._subscriptions[name]
            self.add("UNSUBSCRIBE", {"id": name})

    def acknowledge(self, max_frames: int) -> None:
        """ACK or NACK a message that may or may not have come: neither is an error."""
        if not self._subscriptions:
            return
        name = self.random.choice(list(self._subscriptions))
        message_id = f"1000-{self.random.randrange(1, 12)}"
        headers = {"message-id": message_id, "subscription": name}
        if self.version == "1.2":
            headers = {"id": f"{self._subscriptions[name]}/{message_id}"}
        if self._transactions and self._in_transactions < max_frames and self.random.random() < 0.5:
            self._in_transactions += 1
            headers["transaction"] = self.random.choice(self._transactions)
        self.add("ACK" if self.version == "1.0" else self.random.choice(["ACK", "NACK"]), headers)

    def begin(self, limit: int) -> None:
        name = f"t{len(self.frames)}"
        if len(self._transactions) < limit:
            self._transactions.append(name)
            self.add("BEGIN", {"transaction": name})

    def end(self) -> None:
        if self._transactions:
            name = self._transactions.pop(self.random.randrange(len(self._transactions)))
            if not self._transactions:
                self._in_transactions = 0
            self.add(self.random.choice(["COMMIT", "ABORT"]), {"transaction": name})

    def heart_beat(self) -> None:
        self.frames.append(self.random.choice([b"\n", b"\r\n", b"\n\n\n"]))


def converse(
    random: Random, token: str, *, subscriptions: int, transactions: int, transaction_frames: int
) -> Conversation:
    """Return a valid conversation that keeps within these limits."""
    made = Conversation(random, random.choice(VERSIONS), token)
    made.connect()
    weights = [random.randint(1, 8) for _ in range(5)]
    for _ in range(random.randrange(40)):
        match random.choices(range(5), weights)[0]:
            case 0:
                made.subscribe(subscriptions)
            case 1:
                made.unsubscribe()
            case 2:
                made.acknowledge(transaction_frames)
            case 3:
                made.begin(transactions)
            case _:
                made.end()
        if random.random() < 0.1:
            made.heart_beat()
    if random.random() < 0.5:
        made.add("DISCONNECT", {})
    return made


def mutate(random: Random, data: bytes) -> bytes:
    """Return the bytes with some faults, few as a rule: what comes after the first one is seldom read."""
    mutated = bytearray(data)
    connect = data.find(b"\0") if random.random() < 0.8 else 0
    for _ in range(random.choice([0, 1, 1, 1, 2, 6])):
        at = random.randrange(min(connect, len(mutated)), len(mutated) + 1)
        end = min(len(mutated), at + random.choice([1, 1, 2, 5, 40]))
        match random.randrange(6):
            case 0:
                mutated[at:at] = random.choice(SPICES)
            case 1:
                mutated[at:end] = random.choice(SPICES)
            case 2:
                del mutated[at:end]
            case 3:
                mutated[at:at] = mutated[at : at + random.randrange(200)]
            case 4:
                mutated[at:end] = random.randbytes(end - at)
            case _:
                other = random.randrange(len(mutated) + 1)
                mutated[at:at] = mutated[other : other + 60]
    return bytes(mutated)


def cut(random: Random, data: bytes, largest: int) -> list[bytes]:
    """Return the bytes in pieces of at most this size."""
    size = random.choice([3, 50, 500, largest])
    pieces = []
    while data:
        here = random.randint(1, size)
        pieces.append(data[:here])
        data = data[here:]
    return pieces


def _line(name: str, value: str, *, escaped: bool) -> str:
    if escaped:
        name, value = (text.replace("\\", "\\\\").replace(":", "\\c") for text in (name, value))
    return f"{name}:{value}"
