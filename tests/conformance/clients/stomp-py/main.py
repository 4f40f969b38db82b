"""Does what its standard input says with stomp.py, and tells what happens: see tests/support/client_programs.py."""

import json
import sys
import threading
from typing import Any, Final
from urllib.parse import urlsplit

import stomp

_lock: Final = threading.Lock()


def say(event: str, frame: Any = None) -> None:
    """Write one line."""
    headers, body = ({}, "") if frame is None else (frame.headers, frame.body or "")
    with _lock:
        sys.stdout.write(json.dumps({"event": event, "headers": headers, "body": body}) + "\n")
        sys.stdout.flush()


class Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Called on stomp.py's own thread."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def on_connected(self, frame: Any) -> None:
        say("connected", frame)

    def on_message(self, frame: Any) -> None:
        self.messages.append(frame)
        say("message", frame)

    def on_receipt(self, frame: Any) -> None:
        say("receipt", frame)

    def on_error(self, frame: Any) -> None:
        say("error", frame)

    def on_disconnected(self) -> None:
        say("closed")


def main() -> None:
    """Obey until the end of standard input."""
    listener = Listener()
    connection: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        match order["command"]:
            case "connect":
                url = urlsplit(order["url"])
                connection = stomp.WSStompConnection(
                    [(url.hostname, url.port)], ws_path=url.path, heartbeats=(order["heartBeat"], order["heartBeat"])
                )
                connection.set_listener("", listener)
                connection.connect(headers={"Authorization": f"Bearer {order['token']}"})
            case "subscribe":
                headers = dict(order["headers"], receipt=order["receipt"])
                connection.subscribe(headers.pop("destination"), headers.pop("id"), headers.pop("ack"), headers)
            case "ack":
                connection.ack(listener.messages[order["message"]].headers["ack"])
            case "nack":
                connection.nack(listener.messages[order["message"]].headers["ack"])
            case "disconnect":
                connection.disconnect(receipt=order["receipt"])


if __name__ == "__main__":
    main()
