"""Calls of APPEND as a dispatcher makes them, for tests that need a log with something in it."""

from itertools import count
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import SESSIONS_TTL_MS
from pushcluster_runtime.redis.client import Argument, Call

DAY_MS: Final = 86_400_000
TOKEN: Final = 1
_CHANNELS: Final = count(1)
"""Each call is one of a channel of its own, so that calls at the same time may run in any order."""


def append_call(
    keys: Keys,
    user: str,
    destination: Destination,
    body: str | bytes,
    *,
    headers: str = "",
    content_type: str = "",
    message_id: str = "",
    ttl_ms: int = 0,
    most: int = 1_000,
    keep_ms: int = DAY_MS,
    kept_delivered_ms: int = 120_000,
    meta_ms: int = 2 * DAY_MS,
    known_ms: int = 600_000,
    token: int = TOKEN,
    attempt: str = "",
    reply: str = "",
) -> Call:
    """Return a call of an attempt that nobody has made, unless it is given."""
    names = [keys.meta(user, destination), keys.log(user, destination), keys.sessions(user), keys.destinations(user)]
    names += [keys.fence(0), keys.recipients(user, destination)]
    if message_id:
        names.append(keys.message(user, destination, message_id))
    args: list[Argument] = [body, headers, content_type, message_id, ttl_ms]
    args += [most, keep_ms, kept_delivered_ms, meta_ms, known_ms, str(destination)]
    args += [token, attempt or f"{next(_CHANNELS)}-1", SESSIONS_TTL_MS, *([reply] if reply else [])]
    return Call(names, args)
