"""What clients choose does not decide how much memory a dispatcher needs."""

import secrets
from pathlib import Path
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation, session_id
from pushcluster_contract.limits import MAX_NAME_CHARS, MAX_SUBSCRIPTIONS_PER_SESSION, SESSIONS_PER_USER
from pushcluster_contract.session_entry import SessionEntry
from tests.support.dispatchers import DEMO, Logs, Producer, running_dispatcher
from tests.support.planes import Plane
from tests.support.waiting import eventually

USERS: Final = 16
COUNT: Final = 6_000
MAX_PEAK_MIB: Final = 128
"""Half of the pod's limit; a dispatcher with nothing to do has about 60."""


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    raise AssertionError("no VmHWM")


async def test_sessions_with_many_long_subscriptions_cost_a_dispatcher_no_memory(
    plane: Plane, producing: Producer, logs: Logs
) -> None:
    gateway = Incarnation.new(secrets.token_hex(16), secrets.token_bytes(8))
    users = [f"user-{n}" for n in range(USERS)]
    for session in range(SESSIONS_PER_USER):
        others = (f"{session}-{n}-".ljust(MAX_NAME_CHARS, "x") for n in range(MAX_SUBSCRIPTIONS_PER_SESSION - 1))
        entry = SessionEntry(gateway, (DEMO, *(Destination("topic", name) for name in others)))
        for user in users:
            await logs.register(user, session_id(secrets.token_bytes(17)), entry.encode())
    for n in range(COUNT):
        producing.send(users[n % USERS], str(n))
    await producing.confirmed()
    async with running_dispatcher(plane) as dispatcher:

        async def acknowledged() -> bool:
            return await dispatcher.metric("acknowledged_total") == COUNT

        await eventually(acknowledged)
        assert peak_mib(dispatcher.process.pid) < MAX_PEAK_MIB
