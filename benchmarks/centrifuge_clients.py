"""Many clients of Centrifuge in one process, which cost as little as those of `stomp_clients.py`, and obey as they do.

`python -m benchmarks.centrifuge_clients` runs as a child process (see `child.py`).
"""

from collections.abc import Mapping

from benchmarks.centrifuge_protocol import (
    CONNECT_ID,
    SUBSCRIBE_ID,
    check_accepted,
    encode_connect,
    encode_subscribe,
    parse_replies,
)
from benchmarks.child import Handler, run
from benchmarks.stomp_clients import Clients, RawClient, build_handlers, handshake, masked_text

SUBPROTOCOL = "centrifuge-json"


class CentrifugeClients(Clients):
    """The clients of one process. A session's path has the user in place of `{user}`."""

    async def _enter(self, client: RawClient, user: str, path: str, mode: str, vhost: str) -> None:  # noqa: ARG002
        await client.exchange(handshake(path.replace("{user}", user), SUBPROTOCOL), b"\r\n\r\n")
        for number, command in ((CONNECT_ID, encode_connect()), (SUBSCRIBE_ID, encode_subscribe(user))):
            data = await client.exchange(masked_text(command), b'"id":%d,' % number)
            check_accepted(parse_replies(data)[0], number)


async def make_handlers() -> Mapping[str, Handler]:
    """See `child.run`."""
    return build_handlers(CentrifugeClients())


if __name__ == "__main__":
    run(make_handlers)
