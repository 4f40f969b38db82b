"""What a script does in Redis."""

from typing import Any


async def count_calls(redis: Any) -> int:
    """Return how many commands Redis has run, those of scripts included, and the INFO that asks for this number."""
    return sum(int(each["calls"]) for each in (await redis.info("commandstats")).values())
