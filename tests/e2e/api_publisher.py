"""A back end that publishes over HTTP without pause, and knows what was accepted and what was refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import aiohttp

from demo.expose import Access
from tests.support.waiting import eventually

PAUSE_S = 0.03
RETRY_S = 0.2


class ApiPublisher:
    """Publishes `0`, `1`, `2`, … to one user, each again under the same id until it is accepted."""

    def __init__(self, access: Access, user: str) -> None:
        self.key = access.api_key
        self.accepted: list[str] = []
        """Bodies in the order of publishing."""
        self.refused: list[int] = []
        """Statuses of the answers that no retry mends."""
        self._url = f"{access.api_url}/v1/users/{user}/messages"
        self._user = user
        self._stopping = False

    @classmethod
    @asynccontextmanager
    async def publishing(cls, access: Access, user: str) -> AsyncIterator[Self]:
        """Publish inside the block; the message under way at its end is finished."""
        publisher = cls(access, user)
        task = asyncio.create_task(publisher._run())
        try:
            yield publisher
        finally:
            publisher._stopping = True
            await task

    async def try_key(self, key: str) -> int:
        """Publish the first message once more, which changes nothing; returns the status of the answer.

        A node may send connections to a pod that has just gone for a moment longer: they are tried again.
        """

        async def answered() -> int | None:
            try:
                return await self._publish(key, "0")
            except (aiohttp.ClientError, TimeoutError):
                return None

        status = await eventually(answered)
        assert status is not None
        return status

    async def some_more(self, count: int) -> None:
        """Wait until so many more messages were accepted."""
        enough = len(self.accepted) + count
        await eventually(lambda: len(self.accepted) >= enough)

    async def _run(self) -> None:
        while not self._stopping:
            body = str(len(self.accepted))
            try:
                status = await self._publish(self.key, body)
            except (aiohttp.ClientError, TimeoutError):
                status = 503
            if status == 202:
                self.accepted.append(body)
            elif status < 500:
                self.refused.append(status)
            await asyncio.sleep(PAUSE_S if status == 202 else RETRY_S)

    async def _publish(self, key: str, body: str) -> int:
        # A connection for each message, so that every dispatcher is asked.
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"{self._user}-{body}"}
        parameters = {"destination": "/queue/demo"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.post(self._url, params=parameters, headers=headers, data=body.encode()) as answer,
        ):
            return answer.status
