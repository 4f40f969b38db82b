"""HTTP requests that open a WebSocket, and those that do not quite."""

from typing import Final


def build_request(path: str = "/ws", *, method: str = "GET", version: str = "HTTP/1.1", **headers: str | None) -> bytes:
    """Return a handshake's bytes; a header's `-` is written `_` here, and None leaves one out that it needs."""
    chosen = {
        "Host": "test",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in chosen.items() if value is not None)
    return f"{method} {path} {version}\r\n{lines}\r\n".encode()


REQUEST: Final = build_request()
