"""The settings, which the page reads once from its environment when it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

MIN_JWT_KEY_BYTES: Final = 32
"""RFC 7518, section 3.2: an HS256 key must be at least as long as the hash."""
STOMPJS_FILE: Final = "stomp.umd.min.js"


class InvalidSettings(ValueError):
    """A variable is missing or invalid. The message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Secrets stay out of the repr."""

    ws_url: str
    """The address of the gateways, as browsers reach them."""
    api_url: str
    """The address of the dispatchers' HTTP API, as this server reaches it, without a slash at the end."""
    users: tuple[str, ...]
    """The only users for whom the page makes tokens and to whom it sends."""
    user_claim: str
    """The claim of a token that says who the user is: `spec.gateway.auth.userClaim`."""
    port: int
    host: str
    stompjs_dir: Path
    """Holds `stomp.umd.min.js` of the npm package @stomp/stompjs."""
    api_key: str = field(repr=False)
    jwt_key: str = field(repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables `PAGE_…`. Raises InvalidSettings."""
        users = tuple(user.strip() for user in environ.get("PAGE_USERS", "alice,bob").split(","))
        if not all(users) or len(set(users)) != len(users):
            raise InvalidSettings("PAGE_USERS must be different user ids separated by commas, such as alice,bob")
        # Gateways ignore the line end too.
        jwt_key = _required(environ, "PAGE_JWT_KEY").rstrip("\r\n")
        if len(jwt_key.encode()) < MIN_JWT_KEY_BYTES:
            raise InvalidSettings(f"PAGE_JWT_KEY must have at least {MIN_JWT_KEY_BYTES} bytes")
        stompjs_dir = Path(_required(environ, "PAGE_STOMPJS_DIR"))
        if not (stompjs_dir / STOMPJS_FILE).is_file():
            raise InvalidSettings(f"PAGE_STOMPJS_DIR must be a directory that holds {STOMPJS_FILE}, not {stompjs_dir}")
        return cls(
            ws_url=_url(environ, "PAGE_WS_URL", "ws", "wss"),
            api_url=_url(environ, "PAGE_API_URL", "http", "https").rstrip("/"),
            users=users,
            user_claim=environ.get("PAGE_USER_CLAIM") or "sub",
            port=_port(environ.get("PAGE_PORT", "8080")),
            host=environ.get("PAGE_HOST", "0.0.0.0"),  # noqa: S104 - in a pod, only the Service exposes it
            stompjs_dir=stompjs_dir,
            api_key=_first_word(environ, "PAGE_API_KEY"),
            jwt_key=jwt_key,
        )


def _required(environ: Mapping[str, str], name: str) -> str:
    if not (value := environ.get(name, "")):
        raise InvalidSettings(f"{name} must be set")
    return value


def _first_word(environ: Mapping[str, str], name: str) -> str:
    """Return the first API key. The Secret may hold several keys while they are rotated, each with what it may do."""
    words = _required(environ, name).split()
    if not words:
        raise InvalidSettings(f"{name} must be set")
    return words[0]


def _url(environ: Mapping[str, str], name: str, *schemes: str) -> str:
    value = _required(environ, name)
    url = urlsplit(value)
    if url.scheme not in schemes or not url.hostname:
        raise InvalidSettings(f"{name} must be a URL with {' or '.join(schemes)}, not {value!r}")
    return value


def _port(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 65_535:
        raise InvalidSettings(f"PAGE_PORT must be 1 to 65535, not {value!r}")
    return int(value)
