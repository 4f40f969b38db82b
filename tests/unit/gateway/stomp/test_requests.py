"""What stands in CONNECTED; how requests are read is tested with the session (test_session.py)."""

from typing import Any

import pytest

from pushcluster_gateway.stomp.frames import SUBPROTOCOLS, HeartBeat, Version, negotiate_interval_ms
from pushcluster_gateway.stomp.requests import headers_of_connected

ANSWER: dict[str, Any] = {
    "version": Version.V1_1,
    "session": "a session",
    "server": "a server",
    "user": "alice",
    "gateway": "gateway-0",
    "heart_beat": HeartBeat(1_000, 2_000),
}


def test_connected_says_what_was_agreed_on_and_who_answers() -> None:
    assert headers_of_connected(**ANSWER, expires_in_ms=None) == {
        "version": "1.1",
        "session": "a session",
        "server": "a server",
        "user-name": "alice",
        "gateway": "gateway-0",
        "heart-beat": "1000,2000",
    }


@pytest.mark.parametrize("expires_in_ms", [0, 1_500])
def test_connected_says_when_the_token_ends_if_it_does(expires_in_ms: int) -> None:
    without = headers_of_connected(**ANSWER, expires_in_ms=None)
    expected = {**without, "token-expires-in-ms": str(expires_in_ms)}
    assert headers_of_connected(**ANSWER, expires_in_ms=expires_in_ms) == expected


@pytest.mark.parametrize(("can", "wants", "interval"), [(0, 0, 0), (5, 0, 0), (0, 5, 0), (5, 7, 7), (7, 5, 7)])
def test_a_heart_beat_goes_as_often_as_both_sides_can_bear_and_never_if_one_has_none(
    can: int, wants: int, interval: int
) -> None:
    assert negotiate_interval_ms(can, wants) == interval


def test_each_subprotocol_is_its_version() -> None:
    assert SUBPROTOCOLS == {"v12.stomp": Version.V1_2, "v11.stomp": Version.V1_1, "v10.stomp": Version.V1_0}
