"""Tokens that the demo's gateways accept."""

import time

import jwt


def mint(key: str, user: str, *, seconds: int = 86_400) -> str:
    """Return an HS256 token for `user`, valid for `seconds`."""
    now = int(time.time())
    return jwt.encode({"sub": user, "iat": now, "exp": now + seconds}, key, algorithm="HS256")
