"""What is said to both servers: each rule of the specifications once, kept and broken."""

from typing import Final

from tests.conformance.dialogue import Case, Push, Reconnect, Step


def frame(command: str, *lines: str, body: str = "") -> str:
    return "\n".join([command, *lines, "", ""]) + body + "\0"


def subscribe(*lines: str, id: str = "1", receipt: str = "s") -> str:  # noqa: A002 - the header's name
    return frame("SUBSCRIBE", f"id:{id}", "destination:{destination}", *lines, f"receipt:{receipt}")


def settle(command: str, version: str, number: int = 0, *lines: str) -> str:
    if version == "1.2":
        return frame(command, f"id:{{ack{number}}}", *lines, f"receipt:a{number}")
    return frame(command, f"message-id:{{ack{number}}}", "subscription:1", *lines, f"receipt:a{number}")


def connect(*lines: str, command: str = "CONNECT") -> str:
    return frame(command, *lines, "{credentials}")


BEGIN: Final = frame("BEGIN", "transaction:t", "receipt:b")
DISCONNECT: Final = frame("DISCONNECT", "receipt:d")


def said(name: str, *steps: Step, version: str | None = "1.2") -> Case:
    return Case(name, version, steps)


CONNECTING: Final = (
    said("CONNECT with accept-version 1.2", connect("accept-version:1.2"), version=None),
    said("CONNECT with accept-version 1.1", connect("accept-version:1.1"), version=None),
    said("CONNECT without accept-version", connect(), version=None),
    said("CONNECT with accept-version 1.0,1.1,1.2", connect("accept-version:1.0,1.1,1.2"), version=None),
    said("CONNECT with accept-version 2.0", connect("accept-version:2.0"), version=None),
    said("STOMP instead of CONNECT", connect("accept-version:1.2", command="STOMP"), version=None),
    said("CONNECT with heart-beat:1000,2000", connect("accept-version:1.2", "heart-beat:1000,2000"), version=None),
    said("CONNECT with heart-beat:x", connect("accept-version:1.2", "heart-beat:x"), version=None),
    said("CONNECT with an unknown host", connect("accept-version:1.2", "host:elsewhere"), version=None),
    said("CONNECT without credentials", frame("CONNECT", "accept-version:1.2"), version=None),
    said("SUBSCRIBE as the first frame", subscribe(), version=None),
    said("CONNECT twice", connect("accept-version:1.2")),
)

SUBSCRIBING: Final = (
    *(
        said(f"SUBSCRIBE in {version} with ack:{ack}, a message", subscribe(f"ack:{ack}"), Push(), version=version)
        for version, modes in (
            ("1.0", ("auto", "client")),
            ("1.1", ("auto", "client", "client-individual")),
            ("1.2", ("auto", "client", "client-individual")),
        )
        for ack in modes
    ),
    said("SUBSCRIBE in 1.0 with ack:client-individual", subscribe("ack:client-individual"), version="1.0"),
    said("SUBSCRIBE with ack:never", subscribe("ack:never")),
    said("SUBSCRIBE without destination", frame("SUBSCRIBE", "id:1", "receipt:s")),
    said("SUBSCRIBE to a destination that nobody has", frame("SUBSCRIBE", "id:1", "destination:/x/y", "receipt:s")),
    said("SUBSCRIBE in 1.2 without id", frame("SUBSCRIBE", "destination:{destination}", "receipt:s")),
    said(
        "SUBSCRIBE in 1.0 without id, a message",
        frame("SUBSCRIBE", "destination:{destination}", "receipt:s"),
        Push(),
        version="1.0",
    ),
    said("SUBSCRIBE twice with one id", subscribe(), subscribe(receipt="again")),
    said("a body with NUL", subscribe(), Push(b"a\0b")),
    said("an empty body", subscribe(), Push(b"")),
    said("UNSUBSCRIBE", subscribe(), frame("UNSUBSCRIBE", "id:1", "receipt:u")),
    said("UNSUBSCRIBE of what is not subscribed to", frame("UNSUBSCRIBE", "id:1", "receipt:u")),
    said("UNSUBSCRIBE without id", frame("UNSUBSCRIBE", "receipt:u")),
    said(
        "UNSUBSCRIBE in 1.0 by destination",
        frame("SUBSCRIBE", "destination:{destination}", "receipt:s"),
        frame("UNSUBSCRIBE", "destination:{destination}", "receipt:u"),
        version="1.0",
    ),
)

ACKNOWLEDGING: Final = (
    *(
        said(f"ACK in {version}", subscribe("ack:client"), Push(), settle("ACK", version), version=version)
        for version in ("1.0", "1.1", "1.2")
    ),
    said(
        "ACK twice", subscribe("ack:client"), Push(), settle("ACK", "1.2"), frame("ACK", "id:{ack0}", "receipt:again")
    ),
    said("ACK with ack:auto", subscribe(), Push(), frame("ACK", "id:{ack0}", "receipt:a")),
    said("ACK of no message", subscribe("ack:client"), frame("ACK", "id:x", "receipt:a")),
    said("ACK without id", subscribe("ack:client"), frame("ACK", "receipt:a")),
    said(
        "ACK in 1.1 without subscription",
        subscribe("ack:client"),
        Push(),
        frame("ACK", "message-id:{ack0}", "receipt:a"),
        version="1.1",
    ),
    said("NACK", subscribe("ack:client-individual"), Push(), settle("NACK", "1.2")),
    said("NACK in 1.0", subscribe("ack:client"), Push(), settle("NACK", "1.0"), version="1.0"),
    said(
        "ack:client, the second of three acknowledged, a new session",
        subscribe("ack:client"),
        *(Push(b"1"), Push(b"2"), Push(b"3")),
        settle("ACK", "1.2", 1),
        DISCONNECT,
        Reconnect(),
        subscribe("ack:auto", receipt="again"),
        Push(b"4"),
    ),
    said(
        "ack:client-individual, the second of three acknowledged, a new session",
        subscribe("ack:client-individual"),
        *(Push(b"1"), Push(b"2"), Push(b"3")),
        settle("ACK", "1.2", 1),
        DISCONNECT,
        Reconnect(),
        subscribe("ack:auto", receipt="again"),
        Push(b"4"),
    ),
)

TRANSACTIONS: Final = (
    said("BEGIN, ABORT", BEGIN, frame("ABORT", "transaction:t", "receipt:e")),
    said("BEGIN, COMMIT", BEGIN, frame("COMMIT", "transaction:t", "receipt:e")),
    said("BEGIN twice", BEGIN, frame("BEGIN", "transaction:t", "receipt:again")),
    said("BEGIN without transaction", frame("BEGIN", "receipt:b")),
    said("COMMIT of what has not begun", frame("COMMIT", "transaction:t", "receipt:e")),
    said("ABORT of what has not begun", frame("ABORT", "transaction:t", "receipt:e")),
    said(
        "ACK in a transaction that is committed",
        subscribe("ack:client"),
        Push(),
        BEGIN,
        settle("ACK", "1.2", 0, "transaction:t"),
        frame("COMMIT", "transaction:t", "receipt:e"),
    ),
    said(
        "ACK in a transaction that is not open",
        subscribe("ack:client"),
        Push(),
        settle("ACK", "1.2", 0, "transaction:t"),
    ),
)

FRAMING: Final = (
    said("DISCONNECT", DISCONNECT),
    said("SEND", subscribe(), frame("SEND", "destination:{destination}", "receipt:x", body="m")),
    said("an unknown command", frame("PUBLISH", "receipt:x")),
    said("a receipt in 1.2 with every escape", frame("BEGIN", "transaction:t", r"receipt:a\cb\\c\nd\re")),
    said("a receipt in 1.1 with every escape", frame("BEGIN", "transaction:t", r"receipt:a\cb\\c\nd"), version="1.1"),
    said(
        "a receipt in 1.0 with what are escapes elsewhere",
        frame("BEGIN", "transaction:t", r"receipt:a\cb"),
        version="1.0",
    ),
    said("a receipt with a colon", frame("BEGIN", "transaction:t", "receipt:a:b")),
    said(r"the escape \t", frame("BEGIN", r"transaction:a\tb", "receipt:b")),
    said(r"the escape \r in 1.1", frame("BEGIN", r"transaction:a\rb", "receipt:b"), version="1.1"),
    said("spaces around headers in 1.0", frame("BEGIN", "transaction : t", "receipt: b "), version="1.0"),
    said("lines that end in CR LF in 1.2", "BEGIN\r\ntransaction:t\r\nreceipt:b\r\n\r\n\0"),
    said("lines that end in CR LF in 1.1", "BEGIN\r\ntransaction:t\r\nreceipt:b\r\n\r\n\0", version="1.1"),
    said("lines that end in CR LF in 1.0", "BEGIN\r\ntransaction:t\r\nreceipt:b\r\n\r\n\0", version="1.0"),
    said("CR inside a line in 1.2", frame("BEGIN", "transaction:a\rb", "receipt:b")),
    said("CR inside a line in 1.1", frame("BEGIN", "transaction:a\rb", "receipt:b"), version="1.1"),
    said("a header twice", frame("BEGIN", "transaction:t", "receipt:first", "receipt:first", "transaction:u")),
    said("a header without colon", frame("BEGIN", "transaction", "receipt:b")),
    said("a header without name", frame("BEGIN", "transaction:t", ":x", "receipt:b")),
    said("a header without value", frame("BEGIN", "transaction:t", "x:", "receipt:b")),
    said("a header that is not UTF-8", b"BEGIN\ntransaction:\xff\nreceipt:b\n\n\0"),
    said("a body where none may be", frame("BEGIN", "transaction:t", "receipt:b", body="text")),
    said(
        "content-length where no body may be",
        frame("BEGIN", "transaction:t", "receipt:b", "content-length:3", body="a\0b"),
    ),
    said(
        "content-length that is too small",
        frame("BEGIN", "transaction:t", "receipt:b", "content-length:1", body="text"),
    ),
    said("content-length that is no number", frame("BEGIN", "transaction:t", "receipt:b", "content-length:x")),
    said("EOLs between frames", "\n\r\n\n" + BEGIN + "\r\n\n", "\n" + DISCONNECT),
    said("NUL between frames", "\0", BEGIN),
    said("two frames in one WebSocket message", BEGIN + frame("ABORT", "transaction:t", "receipt:e")),
    said("a frame over many WebSocket messages", tuple(bytes([octet]) for octet in BEGIN.encode())),
    said("a binary WebSocket message", BEGIN.encode()),
)

CASES: Final = (*CONNECTING, *SUBSCRIBING, *ACKNOWLEDGING, *TRANSACTIONS, *FRAMING)
