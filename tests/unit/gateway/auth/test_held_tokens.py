"""Clients whose tokens wait until keys are read again."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, cast

import jwt
import pytest

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.tokens import HS256_KEY, Algorithm
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth.authenticator import JwtAuthenticator
from pushcluster_gateway.auth.claims import ClaimRules
from pushcluster_gateway.auth.key_refresher import KeyRefresher
from pushcluster_gateway.auth.keyring import Keyring, parse_shared_keys
from pushcluster_gateway.gateway import Gateway
from pushcluster_gateway.session.client import Client
from tests.support.waiting import eventually
from tests.unit.gateway.auth.test_key_refresher import ScriptedSource, keeping
from tests.unit.gateway.test_gateway import FakeSocket, World, build_client

KEY: Final = b"k" * 32
KEYRING: Final[Keyring] = parse_shared_keys({HS256_KEY: KEY})
TOKEN: Final = jwt.encode({"sub": "alice"}, KEY, "HS256")
CONNECT: Final = f"CONNECT\naccept-version:1.2\nhost:x\nAuthorization:Bearer {TOKEN}\n\n\0".encode()


@dataclass
class Held:
    """A client that has sent its token to a gateway whose keys are being read."""

    gateway: Gateway
    client: Client
    refresher: KeyRefresher
    source: ScriptedSource

    @property
    def closed(self) -> close_codes.Close | None:
        return cast(FakeSocket, self.client.socket).closed


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    source = ScriptedSource()
    async with keeping(cast(Any, source), refresh_s=3_600) as kept:
        gateway, client = build_client(World(held_at=""))
        rules = ClaimRules("sub", require_expiry=False)
        gateway._authenticator = JwtAuthenticator(Algorithm.HS256, rules, kept.refresher, time.time)
        client.received(CONNECT)
        await eventually(lambda: kept.refresher.waiting_tokens == 1, within_s=2)
        yield Held(gateway, client, kept.refresher, source)
        await gateway.wait_for_tasks(within_s=0)


async def test_a_client_that_leaves_does_not_wait_for_keys_any_more(held: Held) -> None:
    held.client.lost()
    await eventually(lambda: held.refresher.waiting_tokens == 0, within_s=1)
    assert held.refresher.keyring is None, "it did not wait for the keys"


async def test_a_client_that_stays_is_let_in_once_the_keys_are_here(held: Held) -> None:
    held.source.answers.put_nowait(KEYRING)
    await eventually(lambda: held.client.user == "alice", within_s=2)
    assert held.refresher.waiting_tokens == 0
    held.client.lost()


async def test_a_token_that_cannot_be_verified_now_is_not_a_failed_call(held: Held) -> None:
    """Any stranger can send one: an alarm about failed calls must not be theirs to ring."""
    held.source.answers.put_nowait(Unavailable("down"))
    await eventually(lambda: held.closed, within_s=2)
    assert held.closed is not None
    assert held.closed.name == close_codes.UNAVAILABLE.name
    assert held.gateway.metrics.tokens_put_off == 1
    assert held.gateway.metrics.calls_failed == 0
