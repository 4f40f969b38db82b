"""Remove all sessions of one gateway process from the registry."""

from typing import cast

from redis.asyncio import Redis

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys, parse_member
from pushcluster_contract.limits import REMOVAL_BATCH_SESSIONS
from pushcluster_contract.scripts import Script
from pushcluster_runtime.redis.client import Call, ScriptRunner, translated


async def remove_incarnation(client: Redis, scripts: ScriptRunner, keys: Keys, incarnation: Incarnation) -> int:
    """Remove every session entry that still belongs to `incarnation`, and return how many. Its lease goes last.

    Raise Unavailable. It works in batches of REMOVAL_BATCH_SESSIONS, and may be interrupted and repeated at any point.
    A session that has moved to another incarnation meanwhile stays, because each removal is fenced by the incarnation.
    """
    removed = 0
    set_key = keys.gateway(incarnation)
    while members := await _read_batch(client, set_key):
        removed += await _remove_batch(client, scripts, keys, incarnation, members)
    # The lease goes last. By it, the next attempt finds what an interrupted one left. A live gateway that was removed
    # by mistake finds its lease missing at its next renewal, and writes all of its sessions back. If the lease went
    # before the last entry, that entry could be deleted after the gateway had written it back.
    with translated():
        await client.hdel(keys.without_broker, str(incarnation))
        await client.zrem(keys.gateways, str(incarnation))
    return removed


async def _read_batch(client: Redis, set_key: str) -> list[bytes]:
    """Return some members, or none if the set is empty. The caller removes them, so no cursor is needed."""
    with translated():
        return cast(list[bytes], await client.srandmember(set_key, REMOVAL_BATCH_SESSIONS))


async def _remove_batch(
    client: Redis, scripts: ScriptRunner, keys: Keys, incarnation: Incarnation, members: list[bytes]
) -> int:
    calls = []
    for member in members:
        try:
            user, sid = parse_member(member.decode())
        except (InvalidInput, UnicodeDecodeError):
            continue  # not a session; it leaves the set with the others
        calls.append(Call([keys.sessions(user)], [sid, str(incarnation)]))
    removed = 0
    for reply in await scripts.run_many(Script.REMOVE_SESSION, calls):
        if isinstance(reply, Exception):
            raise reply
        removed += int(reply)
    with translated():
        await client.srem(keys.gateway(incarnation), *members)
    return removed
