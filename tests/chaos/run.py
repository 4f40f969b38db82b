"""One run: traffic, a fault in the middle of it, and the checker's judgement."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from pushcluster_contract.destinations import Destination
from pushcluster_contract.headers import POSSIBLY_REPEATED
from pushcluster_contract.keys import Keys
from pushcluster_runtime.redis.client import connect
from tests.chaos.backend import BackEnd
from tests.chaos.cluster import ChaosCluster
from tests.chaos.devices import DESTINATION, Device, Kind
from tests.support.delivery_judge import check
from tests.support.delivery_log import Entry
from tests.support.delivery_report import Report
from tests.support.dispatchers import Logs
from tests.support.waiting import eventually

MESSAGES: Final = 20_000
FAULT_AFTER: Final = 0.3
"""Share of the messages that is confirmed when the fault comes."""
AFTERWARDS: Final = 0.3
"""Share that is published after the fault."""
DELIVERED_WITHIN_S: Final = 240.0
"""For all messages of a run on a busy machine; what has not arrived then is reported as lost."""
BROKEN_WITHIN_S: Final = 5.0
"""The same where the product is broken and something never arrives."""

KINDS: Final = (Kind("auto", resumes=True), Kind("client", resumes=True), Kind("client-individual", resumes=True))
KINDS_THAT_RELY_ON_THE_CURSOR: Final = (
    Kind("auto", resumes=False),
    Kind("client", resumes=False),
    Kind("client-individual", resumes=False),
)

Fault = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run."""

    report: Report
    seen: str
    """What shows that the fault has happened."""
    back_end_connections: int


async def run(
    cluster: ChaosCluster, fault: Fault | None, *, seed: int, messages: int = MESSAGES, settles: bool = True
) -> Verdict:
    """Publish, let the fault happen, wait until everybody has everything (if it `settles`), and judge."""
    users = {f"single{n}": [kind] for n, kind in enumerate((*KINDS, *KINDS_THAT_RELY_ON_THE_CURSOR) * 2)}
    users |= {f"multi{n}": [*KINDS, KINDS_THAT_RELY_ON_THE_CURSOR[n]] for n in range(3)}
    random, faulted = Random(seed), asyncio.Event()
    needed = 0

    def may_stop() -> bool:
        return faulted.is_set() and back_end.confirmed >= needed

    back_end = BackEnd(cluster.plane.amqp_url, list(users), at_least=messages, may_stop=may_stop)
    devices = [
        Device(user, kind, lambda: cluster.urls, back_end.history(user).subscriptions, seed=seed)
        for user, kinds in users.items()
        for kind in kinds
    ]
    publishing = asyncio.create_task(back_end.run())
    try:
        await eventually(lambda: all(device.subscribed for device in devices))
        await eventually(lambda: back_end.confirmed >= messages * FAULT_AFTER, within_s=DELIVERED_WITHIN_S)
        seen = "nothing broke" if fault is None else await fault()
        for device in devices:
            if device.kind.resumes and random.random() < 0.5:
                device.break_off()
        needed = back_end.confirmed + int(messages * AFTERWARDS)
        faulted.set()
        await publishing
        await _settle(devices, back_end, settles=settles)
        histories = {(user, DESTINATION): back_end.history(user) for user in users}
        for (user, _), history in histories.items():
            history.log = await _read_log(cluster, user)
        return Verdict(check(histories), seen, back_end.connections)
    finally:
        publishing.cancel()
        await asyncio.gather(*(device.leave() for device in devices))


async def _settle(devices: list[Device], back_end: BackEnd, *, settles: bool) -> None:
    def has_all() -> bool:
        for device in devices:
            device.acknowledge_all()
        return all(
            device.subscribed and device.newest == back_end.history(device.user).attempts[-1].body for device in devices
        )

    with suppress(AssertionError):  # the checker says what is missing
        await eventually(has_all, within_s=DELIVERED_WITHIN_S if settles else BROKEN_WITHIN_S)


async def _read_log(cluster: ChaosCluster, user: str) -> list[Entry]:
    client = connect(cluster.plane.redis_url, name="checker")
    try:
        entries = await Logs(client, Keys(cluster.plane.cluster)).entries(user, Destination.parse(DESTINATION))
        return [Entry(each.id, each.body.decode(), marked=POSSIBLY_REPEATED in each.headers) for each in entries]
    finally:
        await client.aclose()
