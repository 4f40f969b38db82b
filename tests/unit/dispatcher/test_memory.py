"""What a dispatcher remembers so that it need not compute it again is small beside its pod's memory limit."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import INGRESS_PARTITIONS, MAX_USER_BYTES
from pushcluster_contract.routing import RoutingMode
from pushcluster_contract.sessions import SessionEntry
from pushcluster_dispatcher import copies, locations, log_entries
from pushcluster_dispatcher.copies import Copies
from pushcluster_dispatcher.locations import Locations
from pushcluster_dispatcher.log_entries import parse_sessions
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.backoff import Backoff

DEMO = Destination("queue", "demo")
MIB = 1_048_576
MAX_MIB = 48
"""All of them full of the largest items: less than a fifth of the pod's 256 MiB."""
SAMPLES = 200


@pytest.fixture(autouse=True)
def forget() -> None:
    for cached in (log_entries._cached_entry, copies._address):
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


def session(n: int, destinations: int) -> tuple[bytes, bytes]:
    subscribed = tuple(Destination("queue", f"{place:02}".rjust(64, "d")) for place in range(destinations - 1))
    return sid(n), SessionEntry(Incarnation("p" * 36, f"{n:016x}"), (DEMO, *subscribed)).encode().encode()


async def test_all_that_is_remembered_fits_beside_what_is_under_way() -> None:
    place = Locations(cast(Any, None), Keys("n" * 60 + ".demo"), Retention(1, 1, 1), backoff=Backoff(lambda: 1.0))
    keys = INGRESS_PARTITIONS * locations.CACHED_USERS * bytes_an_item(lambda n: place._keys_of(user(n), DEMO))
    addresses = copies.CACHED_ROUTES * bytes_an_item(lambda n: copies._address(user(n), DEMO))
    entries = log_entries.CACHED_ENTRIES * bytes_an_item(lambda n: parse_sessions(session(n, 3)))
    played = Copies(cast(Any, None), RoutingMode.SESSION, Metrics())

    def plan(n: int) -> None:
        played.plan(DEMO, tuple(each for place in range(5) for each in session(5 * n + place, 1)))
        log_entries._cached_entry.cache_clear()

    plans = copies.CACHED_ROUTES * bytes_an_item(plan)
    assert played._plan.cache_info().currsize == SAMPLES + 1
    total = (keys + addresses + entries + plans) / MIB

    assert total < MAX_MIB


@pytest.mark.parametrize("destinations", [5, 32])
async def test_long_session_entries_are_read_without_being_remembered(destinations: int) -> None:
    played = Copies(cast(Any, None), RoutingMode.SESSION, Metrics())
    (copy,) = played.plan(DEMO, session(1, destinations))
    assert copy.routing_key == f"demo-user{sid(1).decode()}"
    assert log_entries._cached_entry.cache_info().currsize == 0
    assert played._plan.cache_info().currsize == (1 if destinations == 5 else 0)
