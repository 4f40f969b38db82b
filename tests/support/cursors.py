"""How far a user has got, as the registry knows it: gateways tell it within a second, and when a session leaves."""

from typing import Any

from pushcluster_contract.destinations import Destination
from pushcluster_contract.keys import Keys
from pushcluster_runtime.redis.client import connect
from tests.support.dispatchers import DEMO
from tests.support.waiting import eventually


async def wait_cursor(
    redis_url: str, cluster: str, user: str, message_id: str, *, destination: Destination = DEMO
) -> None:
    """Wait until everything up to this message counts as delivered, for every gateway."""
    redis: Any = connect(redis_url, name="test-cursors")
    try:

        async def reached() -> bool:
            cursor = await redis.hget(Keys(cluster).meta(user, destination), "cursor")
            assert (cursor or b"").decode() == message_id
            return True

        await eventually(reached)
    finally:
        await redis.aclose()
