"""A client as front ends have it: connects again whenever it is cut, and resumes where it stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from websockets.exceptions import ConnectionClosed

from demo.expose import Access
from demo.story import connect
from tests.support.stomp_client import ServerFrame, StompClient, StompError

USER_QUEUE = "/user/queue/demo"
RETRY_S = 0.2


class Follower:
    """Subscribes to the user's queue and remembers what came."""

    def __init__(self, access: Access, user: str) -> None:
        self.messages: dict[str, str] = {}
        """`message-id` to body, in the order in which they came first."""
        self.connects = 0
        self.gaps = 0
        self.unmarked = 0
        """Messages that came again without saying so."""
        self._access = access
        self._user = user

    @classmethod
    @asynccontextmanager
    async def following(cls, access: Access, user: str) -> AsyncIterator[Self]:
        """Follow `user` inside the block."""
        follower = cls(access, user)
        task = asyncio.create_task(follower._run())
        try:
            yield follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                client = await connect(self._access, self._user)
            except StompError:  # by a gateway that has just begun to stop
                await asyncio.sleep(RETRY_S)
                continue
            self.connects += 1
            try:
                await client.subscribe(USER_QUEUE, id="0", last_message_id=next(reversed(self.messages), None))
                while True:
                    self._take(await client.next_message(within_s=3_600))
            except (StompError, ConnectionClosed, OSError):
                continue
            finally:
                await self._leave(client)

    def _take(self, message: ServerFrame) -> None:
        message_id = message["message-id"]
        self.gaps += message.headers.get("recovered") == "false"
        self.unmarked += message_id in self.messages and message.headers.get("redelivered") != "true"
        self.messages.setdefault(message_id, message.text)

    async def _leave(self, client: StompClient) -> None:
        with suppress(ConnectionClosed, OSError):
            await client.close()
