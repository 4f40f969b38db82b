"""Connect the clients of a figure, or fail: it would else be that of fewer clients than it says."""

from collections.abc import Sequence

from benchmarks.processes import Child


async def connect_clients(
    clients: Child,
    ports: Sequence[int],
    users: Sequence[str],
    *,
    path: str = "/ws",
    mode: str = "gateway",
    **more: object,
) -> None:
    """Open a session for each user (`stomp_clients.Clients.connect`). Raises RuntimeError if one could not connect."""
    connected = await clients.call("connect", ports=ports, users=users, path=path, mode=mode, **more)
    if connected["errors"]:
        raise RuntimeError(f"clients could not connect: {connected['errors'][:3]}")
