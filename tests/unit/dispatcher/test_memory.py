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
from pushcluster_contract.sessions import SessionEntry
from pushcluster_dispatcher import copies, locations, log_entries, parse
from pushcluster_dispatcher.copies import Copies
from pushcluster_dispatcher.locations import Locations
from pushcluster_dispatcher.log_entries import parse_sessions
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.settings import Retention
from pushcluster_runtime.amqp import Delivery
from pushcluster_runtime.amqp_frames import encode_properties
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
    place = Locations(cast(Any, None), Keys("n" * 60 + ".demo"), Retention(1, 1, 1, 1), backoff=Backoff(lambda: 1.0))
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


def entry_of(size: int) -> bytes:
    """Return a session's entry of so many bytes."""
    text = SessionEntry(Incarnation("p" * 36, "0" * 16), (DEMO,)).encode()
    while missing := size - len(text):
        taken = missing if missing <= len(" /queue/") + 64 else 50
        text += " /queue/".ljust(taken, "d")
    return text.encode()


def test_one_byte_more_of_a_session_entry_is_read_and_not_remembered() -> None:
    for more in (0, 1):
        entry = entry_of(log_entries.CACHED_ENTRY_BYTES + more)
        assert list(parse_sessions((sid(1), entry))) == [sid(1).decode()]
        assert log_entries._cached_entry.cache_info().currsize == 1, "the one of the allowed length"


async def test_one_byte_more_of_a_users_sessions_is_planned_and_not_remembered() -> None:
    played = Copies(cast(Any, None), RoutingMode.SESSION, Metrics())
    for more in (0, 1):
        rest = copies.CACHED_SESSIONS_BYTES - 2 * len(sid(1)) - 200 + more
        assert len(played.plan(DEMO, (sid(1), entry_of(200), sid(2), entry_of(rest)))) == 2
        assert played._plan.cache_info().currsize == 1, "the list of the allowed length"


@pytest.mark.parametrize("more", [0, 1])
def test_one_byte_more_of_a_table_of_headers_is_read_and_not_remembered(more: int) -> None:
    parse._cached_table.cache_clear()
    headers = {"destination": str(DEMO), "x-a": ""}
    raw = encode_properties(BasicProperties(headers=headers))
    table_bytes = len(raw) - 2
    headers["x-a"] = "a" * (parse.CACHED_TABLE_BYTES - table_bytes + more)
    raw = encode_properties(BasicProperties(headers=headers))
    parsed = parse.parse_delivery(Delivery(1, "push", "alice", False, raw, b"", "c"))
    assert isinstance(parsed, parse.Message)
    assert parse._cached_table.cache_info().currsize == 1 - more


@pytest.mark.parametrize(
    ("cached", "most"),
    [
        (log_entries._cached_entry, log_entries.CACHED_ENTRIES),
        (copies._address, copies.CACHED_ROUTES),
        (parse._cached_table, parse.CACHED_TABLES),
    ],
)
def test_of_one_more_than_is_remembered_the_oldest_is_forgotten(cached: Any, most: int) -> None:
    cached.cache_clear()
    for n in range(most + 1):
        cached(*{"_address": (f"u{n}", DEMO)}.get(cached.__name__, (b"%d" % n,)))
    assert (cached.cache_info().currsize, cached.cache_info().maxsize) == (most, most)
    cached.cache_clear()


@pytest.mark.parametrize("destinations", [5, 32])
async def test_long_session_entries_are_read_without_being_remembered(destinations: int) -> None:
    played = Copies(cast(Any, None), RoutingMode.SESSION, Metrics())
    (copy,) = played.plan(DEMO, session(1, destinations))
    assert copy.routing_key == f"demo-user{sid(1).decode()}"
    assert log_entries._cached_entry.cache_info().currsize == 0
    assert played._plan.cache_info().currsize == (1 if destinations == 5 else 0)
