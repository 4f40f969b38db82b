"""What a dispatcher remembers so that it need not compute it again is small beside its pod's memory limit."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import pytest
from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import INGRESS_PARTITIONS, MAX_USER_BYTES
from pushcluster_contract.routing import RoutingMode
from pushcluster_dispatcher import messages
from pushcluster_dispatcher.egress import copies
from pushcluster_dispatcher.egress.copies import CopyPublisher
from pushcluster_dispatcher.log import entries, user_log
from pushcluster_dispatcher.log.entries import parse_sessions
from pushcluster_dispatcher.log.user_log import Fence, UserLog
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.amqp.frames import encode_properties
from pushcluster_runtime.backoff import Backoff

DEMO = Destination("queue", "demo")
MIB = 1_048_576
MAX_MIB = 48
"""All of them full of the largest items: less than a fifth of the pod's 256 MiB."""
SAMPLES = 200


@pytest.fixture(autouse=True)
def forget() -> None:
    for cached in (entries._read_incarnation, copies._address):
        cached.cache_clear()


def bytes_an_item(remember: Callable[[int], object]) -> float:
    """Return what one call leaves in memory, as the mean of some."""
    remember(SAMPLES)
    gc.collect()
    tracemalloc.start()
    for n in range(SAMPLES):
        remember(n)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return grown / SAMPLES


def user(n: int) -> str:
    return str(n).rjust(MAX_USER_BYTES, "u")


def sid(n: int) -> bytes:
    return f"{n:026}".translate(str.maketrans("0189", "wxyz")).encode()


def session(n: int) -> bytes:
    return sid(n) + b" " + str(Incarnation("p" * 36, f"{n:016x}")).encode()


async def test_all_that_is_remembered_fits_beside_what_is_under_way() -> None:
    place = UserLog(
        cast(Any, None), Keys("n" * 60 + ".demo"), Retention(1, 1, 1, 1), Fence(0, 1), backoff=Backoff(lambda: 1.0)
    )
    keys = INGRESS_PARTITIONS * user_log.CACHED_USERS * bytes_an_item(lambda n: place._keys_of(user(n), DEMO))
    addresses = copies.CACHED_ROUTES * bytes_an_item(lambda n: copies._address(user(n), DEMO))
    gateways = entries.CACHED_INCARNATIONS * bytes_an_item(lambda n: parse_sessions(session(n)))
    played = CopyPublisher(cast(Any, None), RoutingMode.SESSION, Metrics())

    def plan(n: int) -> None:
        played.plan(DEMO, b"\n".join(session(5 * n + place) for place in range(5)))
        entries._read_incarnation.cache_clear()

    plans = copies.CACHED_ROUTES * bytes_an_item(plan)
    assert played._plan.cache_info().currsize == SAMPLES + 1
    total = (keys + addresses + gateways + plans) / MIB

    assert total < MAX_MIB


async def test_one_byte_more_of_a_users_sessions_is_planned_and_not_remembered() -> None:
    played = CopyPublisher(cast(Any, None), RoutingMode.SESSION, Metrics())
    names = [f"{each}.{n:016x}".encode() for n, each in enumerate(("p" * 64, "p" * 64, "p" * 64, "p" * 63))]
    others = b"\n".join(sid(n) + b" " + name for n, name in enumerate(names))
    for more in (0, 1):
        rest = copies.CACHED_SESSIONS_BYTES - len(others) - len(b"\n" + sid(4) + b" .0000000000000000") + more
        sessions = others + b"\n" + sid(4) + b" " + b"p" * rest + b".0000000000000000"
        assert len(sessions) == copies.CACHED_SESSIONS_BYTES + more
        assert len(played.plan(DEMO, sessions)) == 5
        assert played._plan.cache_info().currsize == 1, "the list of the allowed length"


@pytest.mark.parametrize("more", [0, 1])
def test_one_byte_more_of_a_table_of_headers_is_read_and_not_remembered(more: int) -> None:
    messages._cached_table.cache_clear()
    headers = {"destination": str(DEMO), "x-a": ""}
    raw = encode_properties(BasicProperties(headers=headers))
    table_bytes = len(raw) - 2
    headers["x-a"] = "a" * (messages.CACHED_TABLE_BYTES - table_bytes + more)
    raw = encode_properties(BasicProperties(headers=headers))
    parsed = messages.parse_delivery(Delivery(1, "push", "alice", False, raw, b"", "c"))
    assert isinstance(parsed, messages.Message)
    assert messages._cached_table.cache_info().currsize == 1 - more


@pytest.mark.parametrize(
    ("cached", "most"),
    [
        (entries._read_incarnation, entries.CACHED_INCARNATIONS),
        (copies._address, copies.CACHED_ROUTES),
        (messages._cached_table, messages.CACHED_TABLES),
    ],
)
def test_of_one_more_than_is_remembered_the_oldest_is_forgotten(cached: Any, most: int) -> None:
    cached.cache_clear()
    for n in range(most + 1):
        arguments = {"_address": (f"u{n}", DEMO), "_read_incarnation": (b"pod.%016x" % n,)}
        cached(*arguments.get(cached.__name__, (b"%d" % n,)))
    assert (cached.cache_info().currsize, cached.cache_info().maxsize) == (most, most)
    cached.cache_clear()


async def test_of_one_user_more_than_a_partition_remembers_the_oldest_is_forgotten() -> None:
    place = UserLog(cast(Any, None), Keys("ns.demo"), Retention(1, 1, 1, 1), Fence(0, 1), backoff=Backoff(lambda: 1.0))
    for n in (*range(user_log.CACHED_USERS + 1), 0):
        place._keys_of(user(n), DEMO)
    assert place._keys_of.cache_info()[::3] == (0, user_log.CACHED_USERS)
