"""Take the fencing token with which one AMQP channel may append to the logs of a partition.

At most one consumer of a partition has a channel that stands, and messages on it. But it cannot know that it is still
the one: it may have been frozen since. So it takes a token, in this order:

1. Redis counts the partition's token up.
2. The broker answers something on the consumer's own channel. So the channel stood after 1. A consumer that is new to
   the partition, and starts after that channel has fallen, gets a higher token.
3. Redis raises the fence to the token. From now on, every lower one is refused.
4. The broker answers once more. So the channel stood after 3, and whoever is fed next is fed behind the fence.

Only then it appends, over the connection on which it took the token. Whoever is fed next may have a token already, from
when it consumed before: its channel stands, and only waited while another consumer had a higher priority. That token is
lower. Without 3 and 4 it would be good until the first APPEND of its predecessor, however late that runs.

The token need not be on disk first. If a restart of Redis loses it, that connection is gone, and all that was appended
with the token is lost too. What is acknowledged has passed a barrier after it, which covers the token. The channel may
stand, and name its attempts by a lost token. So its next token is higher than all that it had. Otherwise the lost one
could go to another channel later, whose attempts would pass for those of this one.

APPEND refuses what is below the fence. That holds also for commands that wait in a connection, or in a frozen program,
and reach Redis late. A program that has only counted the token up disturbs nobody: that is what 2 is for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.keys import Keys
from pushcluster_contract.scripts import Script
from pushcluster_dispatcher.ingress.interfaces import FencedLog, LogAppender, RedisLost
from pushcluster_dispatcher.log.entries import StaleToken
from pushcluster_dispatcher.log.interfaces import HeldWire, HeldWireSource, Sleep
from pushcluster_dispatcher.log.user_log import Fence
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.wire import pack


@dataclass(slots=True)
class FencedLogs:
    """Opens the logs for one channel of one partition, again after every loss of Redis."""

    partition: int
    keys: Keys
    link: HeldWireSource
    open_log: Callable[[HeldWire, Fence], LogAppender]
    request_barrier: Callable[..., asyncio.Future[None]]
    """`Barrier.request`."""
    prove_channel: Callable[[], Awaitable[None]]
    """Return once the broker has answered something on the channel. Raise Unavailable if the channel is gone."""
    backoff: Backoff
    first_wire: HeldWire | None
    """The connection that was there when the channel was opened. It may be lost by now: then the session ends too."""
    sleep: Sleep = asyncio.sleep
    _last_wire: HeldWire | None = field(default=None, init=False)
    _newest_token: int = field(default=0, init=False)
    """The newest token that this channel has had. 0: none."""

    async def wire(self) -> HeldWire:
        """Return a connection to Redis, from the second time on after a pause. Wait until there is one.

        It may be the same connection as before: for a while it stands beside that of the barrier, although Redis has
        restarted in between. Then the pauses grow.
        """
        wire, self.first_wire = self.first_wire, None
        if wire is None:
            await self.sleep(self.backoff.next_delay_s())
            wire = await self.link.wire()
        if wire is not self._last_wire:
            self.backoff.reset()
        self._last_wire = wire
        return wire

    async def open(self, wire: HeldWire) -> FencedLog:
        """Take a token, and return the logs that it opens.

        Raise RedisLost if this connection cannot be used any more, and Unavailable if the channel is gone, or if
        another consumer has gone on (StaleToken).
        """
        token = await self._count_up(wire)
        await self.prove_channel()
        await self._raise_fence(wire, token)
        await self.prove_channel()
        log = self.open_log(wire, Fence(self.partition, token))
        return FencedLog(token, log, partial(self.request_barrier, wire.run_id))

    async def _count_up(self, wire: HeldWire) -> int:
        names = self.keys.token(self.partition), self.keys.fence(self.partition)
        self._newest_token = int(await self._run(wire, Script.TAKE_TOKEN, len(names), *names, self._newest_token))
        return self._newest_token

    async def _raise_fence(self, wire: HeldWire, token: int) -> None:
        if not await self._run(wire, Script.RAISE_FENCE, 1, self.keys.fence(self.partition), token):
            raise StaleToken(f"Redis: STALE token {token}, another one has raised the fence since")

    async def _run(self, wire: HeldWire, script: Script, *arguments: str | int) -> Any:
        # EVAL sends the whole script. So it works after a SCRIPT FLUSH too.
        command = pack("EVAL", script.source(), *arguments)
        while True:
            try:
                (reply,) = await wire.execute([command])
            except Unavailable as error:
                raise RedisLost(str(error)) from error
            if not isinstance(reply, Exception):
                return reply
            await self.sleep(self.backoff.next_delay_s())
