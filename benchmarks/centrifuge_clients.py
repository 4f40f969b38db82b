"""Many clients of Centrifuge in one process, which cost as little as those of `stomp_clients.py`, and obey as they do.

`python -m benchmarks.centrifuge_clients` runs as a child process (see `child.py`).
"""

from collections.abc import Mapping

from benchmarks.centrifuge_protocol import (
    CONNECT_ID,
    PING,
    PONG,
    SUBSCRIBE_ID,
    check_accepted,
    encode_connect,
    encode_subscribe,
    parse_replies,
    wants_pongs,
)
from benchmarks.child import Handler, run
from benchmarks.stomp_clients import Clients, RawClient, build_handlers, handshake, masked_text

SUBPROTOCOL = "centrifuge-json"


class CentrifugeClient(RawClient):
    """One connection. It answers pings once the server has said that it sends them and wants answers."""

    __slots__ = ("_unread", "answers_pings")

    def __init__(self) -> None:
        super().__init__()
        self.answers_pings = False
        self._unread = b""

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        if self.answers_pings:
            replies, self._unread = parse_replies(self._unread + bytes(self.get_buffer(nbytes)[:nbytes]))
            for _ in range(replies.count(PING)):
                self.send(masked_text(PONG))
        super().buffer_updated(nbytes)


class CentrifugeClients(Clients):
    """The clients of one process. A session's path has the user in place of `{user}`."""

    client_type = CentrifugeClient

    async def _enter(self, client: RawClient, user: str, path: str, mode: str, vhost: str) -> None:  # noqa: ARG002
        await client.exchange(handshake(path.replace("{user}", user), SUBPROTOCOL), b"\r\n\r\n")
        for number, command in ((CONNECT_ID, encode_connect()), (SUBSCRIBE_ID, encode_subscribe(user))):
            data = await client.exchange(masked_text(command), b'"id":%d,' % number)
            replies, _ = parse_replies(data)
            check_accepted(replies, number)
            if isinstance(client, CentrifugeClient) and wants_pongs(replies):
                client.answers_pings = True


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    return build_handlers(CentrifugeClients())


if __name__ == "__main__":
    run(make_handlers)
