"""A gateway and an issuer of tokens: rotation under live connections, the issuer down, keys in Secrets that change."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth import key_refresher
from tests.support.fake_services import JWT_KEY
from tests.support.gateways import Backend, RunningGateway, in_s, running_gateway
from tests.support.gateways import token as shared_token
from tests.support.issuer import Authority, Issuer, SigningKey, jwks, running_issuer
from tests.support.stomp_client import ServerFrame, StompClient, StompError, connected
from tests.support.waiting import eventually

ISSUER, AUDIENCE = "https://issuer.example", "push"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "keys")


@pytest.fixture
async def issuer(authority: Authority) -> AsyncIterator[Issuer]:
    async with running_issuer(authority.server_context()) as running:
        yield running


def variables(issuer: Issuer, authority: Authority, algorithm: Algorithm = Algorithm.RS256) -> dict[str, Any]:
    return {
        "JWT_ALGORITHM": algorithm.value,
        "JWKS_URL": issuer.url,
        "JWKS_OWN_CA": "true",
        "AUTH_KEYS_DIRECTORY": str(authority.directory),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCES": AUDIENCE,
    }


def token(key: SigningKey, user: str = "alice", **claims: Any) -> str:
    return key.token(user, **{"iss": ISSUER, "aud": AUDIENCE, "exp": in_s(3_600), **claims})


async def refused(gateway: RunningGateway, token: str) -> ServerFrame:
    """Return the ERROR that a client with this token gets."""
    with pytest.raises(StompError) as caught:
        await StompClient.connect(gateway.url, token=token)
    assert caught.value.frame is not None
    return caught.value.frame


@pytest.mark.parametrize("algorithm", [Algorithm.RS256, Algorithm.ES256])
async def test_keys_rotate_under_live_connections(
    plane: Any,
    back: Backend,
    issuer: Issuer,
    authority: Authority,
    algorithm: Algorithm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 0.0)
    old, new = SigningKey.make("old", algorithm), SigningKey.make("new", algorithm)
    issuer.serve_keys(old)
    async with running_gateway(plane, **variables(issuer, authority, algorithm)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token(old)) as alice:
            await alice.subscribe("/user/queue/demo")
            issuer.serve_keys(new)
            # Nobody told the gateway: the first token of the new key makes it ask, whoever else waits meanwhile.
            bobs = await asyncio.gather(
                *(StompClient.connect(gateway.url, token=token(new, f"bob{n}")) for n in range(20))
            )
            assert len(issuer.requests) == 2, "one at the start, and one for all twenty"
            for user in ("alice", "bob7"):
                await back.push(user, f"for {user}")
            assert (await alice.next_message()).text == "for alice"
            refusal = await refused(gateway, token(old))
            assert refusal["message"] == close_codes.NOT_AUTHENTICATED.reason
            assert "'old' is not among those of the issuer" in refusal.text
            assert not alice.closed, "what was proved stays proved until its token expires"
            for bob in bobs:
                await bob.close()


async def test_a_key_that_is_exchanged_under_the_same_name_refuses_nobody_for_good(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 3.0)
    old, new, forged = (SigningKey.make("one") for _ in range(3))
    issuer.serve_keys(old)
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:
        await eventually(gateway.is_ready)
        issuer.serve_keys(new)
        async with connected(gateway.url, token=token(new)) as alice:
            assert alice.user_name == "alice"
        refusals = await asyncio.gather(*(refused(gateway, token(key)) for key in [old, forged] * 10))
        assert {refusal["message"] for refusal in refusals} == {close_codes.NOT_AUTHENTICATED.reason}
        assert all("no key verifies" in refusal.text for refusal in refusals)
        assert len(issuer.requests) == 3, "once for the new key, and once for all that no key fits"


async def test_the_last_keys_stay_while_the_issuer_is_down_or_lies(
    plane: Any, back: Backend, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 0.0)
    key, unknown = SigningKey.make("one"), SigningKey.make("other")
    context = authority.server_context()
    async with running_issuer(context) as issuer:
        issuer.serve_keys(key)
        async with running_gateway(plane, JWKS_REFRESH_SECONDS="1", **variables(issuer, authority)) as gateway:
            await eventually(gateway.is_ready)
            issuer.serve(b"<html>sign in</html>")
            await eventually(lambda: failed_reads(gateway, 1))
            issuer.serve(b" " * 10_000_000)
            await eventually(lambda: failed_reads(gateway, 2))
            issuer.answer = cut
            await eventually(lambda: failed_reads(gateway, 4))
            assert await gateway.is_ready()
            assert await gateway.metric("auth_keys") == 1
            await eventually(lambda: keys_are_older_than(gateway, 1))
            async with connected(gateway.url, token=token(key)) as alice:
                assert alice.user_name == "alice"
            refusal = await refused(gateway, token(unknown))
            assert refusal["message"] == close_codes.UNAVAILABLE.reason
            assert "cannot be read now" in refusal.text
            assert int(refusal["retry-after-ms"]) > 0
            assert await gateway.metric("auth_tokens_put_off_total") == 1
            assert await gateway.metric("calls_failed_total") == 0
            assert await gateway.metric("auth_tokens_waiting") == 0


async def test_an_issuer_that_withdraws_its_only_key_is_obeyed(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority
) -> None:
    key = SigningKey.make("one")
    issuer.serve_keys(key)
    async with running_gateway(plane, JWKS_REFRESH_SECONDS="1", **variables(issuer, authority)) as gateway:
        await eventually(gateway.is_ready)
        issuer.serve(b'{"keys": []}')

        async def is_not_ready() -> bool:
            status, text = await gateway.admin("/readyz")
            return status == 503 and "it has no key for RS256" in text

        await eventually(is_not_ready)
        assert (await refused(gateway, token(key)))["message"] == close_codes.NOT_AUTHENTICATED.reason
        issuer.serve_keys(key)
        await eventually(gateway.is_ready)


async def test_a_key_that_is_new_just_after_a_read_is_no_reason_to_give_up(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long it takes until the token comes: the next read is further away than a client waits.
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 600.0)
    key, new = SigningKey.make("one"), SigningKey.make("two")
    issuer.serve_keys(key)
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:
        await eventually(gateway.is_ready)
        issuer.serve_keys(key, new)
        refusal = await refused(gateway, token(new))
        assert refusal["message"] == close_codes.UNAVAILABLE.reason
        assert "the token's key is not known yet" in refusal.text
        until_ms = int(refusal["retry-after-ms"])
        assert 0 < until_ms <= key_refresher.ISSUER_MIN_INTERVAL_S * 1_000
        assert len(issuer.requests) == 1, "strangers can send such tokens too"
        async with connected(gateway.url, token=token(key)) as alice:
            assert alice.user_name == "alice"


async def test_a_token_of_a_new_key_is_held_until_the_issuer_may_be_asked(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 3.0)
    key, new = SigningKey.make("one"), SigningKey.make("two")
    issuer.serve_keys(key)
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:
        await eventually(gateway.is_ready)
        issuer.serve_keys(key, new)
        async with connected(gateway.url, token=token(new)) as alice:
            assert alice.user_name == "alice"
        assert len(issuer.requests) == 2
        assert (await refused(gateway, token(SigningKey.make("three"))))[
            "message"
        ] == close_codes.NOT_AUTHENTICATED.reason
        assert len(issuer.requests) == 3, "nobody is refused for good before the issuer was asked about this very key"


async def failed_reads(gateway: RunningGateway, at_least: int) -> bool:
    return await gateway.metric('auth_key_reads_total{outcome="failed"}') >= at_least


async def keys_are_older_than(gateway: RunningGateway, seconds: float) -> bool:
    return await gateway.metric("auth_keys_age_seconds") > seconds


async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_gateway_that_never_had_keys_is_not_ready_and_says_why(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority
) -> None:
    issuer.serve(b"", status="500 Internal Server Error")
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:

        async def says_why() -> bool:
            status, text = await gateway.admin("/readyz")
            return status == 503 and "no keys to verify tokens" in text and "status 500" in text

        await eventually(says_why)
        key = SigningKey.make("one")
        assert "cannot be read now" in (await refused(gateway, token(key))).text
        issuer.serve_keys(key)
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=token(key)) as alice:
            assert alice.user_name == "alice"


async def test_a_slow_issuer_holds_up_only_those_whose_keys_it_has(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresher, "ISSUER_MIN_INTERVAL_S", 0.0)
    key, new = SigningKey.make("one"), SigningKey.make("two")
    issuer.serve_keys(key)
    answer_now = asyncio.Event()
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:
        await eventually(gateway.is_ready)

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answer_now.wait()
            issuer.serve_keys(key, new)
            await issuer.answer(reader, writer)

        issuer.answer = slow
        waits = asyncio.create_task(StompClient.connect(gateway.url, token=token(new, "bob")))
        await eventually(lambda: len(issuer.requests) == 2)
        async with connected(gateway.url, token=token(key)) as alice:
            await alice.subscribe("/user/queue/demo")
            await back.push("alice", "meanwhile")
            assert (await alice.next_message()).text == "meanwhile"
        assert not waits.done()
        answer_now.set()
        bob = await waits
        assert bob.user_name == "bob"
        await bob.close()


@pytest.mark.parametrize(
    ("claims", "says"),
    [({"iss": "https://evil.example"}, "'iss'"), ({"aud": "another"}, "'aud'"), ({"exp": 5}, "expired")],
)
async def test_a_signature_that_fits_is_not_enough(
    plane: Any, back: Backend, issuer: Issuer, authority: Authority, claims: dict[str, Any], says: str
) -> None:
    key = SigningKey.make("one")
    issuer.serve_keys(key)
    async with running_gateway(plane, **variables(issuer, authority)) as gateway:
        refusal = await refused(gateway, token(key, **claims))
        assert refusal["message"] == close_codes.NOT_AUTHENTICATED.reason
        assert says in refusal.text
        assert await back.sessions("alice") == {}


async def test_a_shared_key_is_exchanged_without_a_restart_and_without_refusing_anybody(
    plane: Any, back: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe of the field `secretRef`: the next key second, exchange the two, remove the former one."""
    monkeypatch.setattr(key_refresher, "SECRET_REFRESH_S", 0.1)
    monkeypatch.setattr(key_refresher, "SECRET_MIN_INTERVAL_S", 0.0)
    former, following = "f" * 32, "n" * 32

    def write(name: str, key: str) -> None:
        """As the kubelet does it: nobody ever reads half of a key."""
        (tmp_path / "new").write_text(key)
        (tmp_path / "new").rename(tmp_path / name)

    def secret(first: str, second: str | None = None) -> None:
        write("hs256.key", first)
        if second is None:
            (tmp_path / "hs256.second.key").unlink(missing_ok=True)
        else:
            write("hs256.second.key", second)

    def signed(key: str) -> str:
        return jwt.encode({"sub": "alice", "exp": in_s(3_600)}, key)

    async def is_let_in(key: str) -> bool:
        try:
            client = await StompClient.connect(gateway.url, token=signed(key))
        except StompError:
            return False
        await client.close()
        return True

    secret(former)
    async with running_gateway(plane, AUTH_KEYS_DIRECTORY=str(tmp_path)) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=signed(former)) as stays:
            assert not await is_let_in(following)
            secret(former, following)
            assert await is_let_in(following), "the first token of a new key is enough to look"
            assert await is_let_in(former)
            secret(following, former)
            await eventually(lambda: is_let_in(former))
            assert await is_let_in(following)
            secret(following)

            async def former_is_refused() -> bool:
                return not await is_let_in(former)

            await eventually(former_is_refused)
            assert await is_let_in(following)
            secret(former, "short")

            async def following_is_refused() -> bool:
                return not await is_let_in(following)

            await eventually(following_is_refused)
            assert await is_let_in(former), "a second key that is none does not keep the first from counting"
            (tmp_path / "hs256.key").unlink()
            await eventually(former_is_refused)
            assert not await gateway.is_ready(), "without any key it takes no new clients"
            assert not stays.closed


async def test_public_keys_in_a_secret_are_reread_too(
    plane: Any, back: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refresher, "SECRET_MIN_INTERVAL_S", 0.0)
    old, new = SigningKey.make("old"), SigningKey.make("new")
    (tmp_path / "jwks.json").write_bytes(jwks(old))
    async with running_gateway(plane, AUTH_KEYS_DIRECTORY=str(tmp_path), JWT_ALGORITHM="RS256") as gateway:
        await eventually(gateway.is_ready)
        (tmp_path / "jwks.json").write_bytes(jwks(new))
        async with connected(gateway.url, token=new.token("alice", exp=in_s(3_600))) as alice:
            assert alice.user_name == "alice"


async def test_a_token_without_an_end_is_accepted_where_the_author_asks_for_it_alone(plane: Any, back: Backend) -> None:
    endless = jwt.encode({"sub": "alice"}, JWT_KEY)
    async with running_gateway(plane) as gateway:
        await eventually(gateway.is_ready)
        refusal = await refused(gateway, endless)
        assert refusal["message"] == close_codes.NOT_AUTHENTICATED.reason
        assert "no claim 'exp'" in refusal.text
    async with running_gateway(plane, JWT_REQUIRE_EXPIRY="false") as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=endless) as alice:
            assert "token-expires-in-ms" not in alice.connected.headers


async def test_connected_says_when_the_token_ends_and_then_the_connection_ends(plane: Any, back: Backend) -> None:
    async with running_gateway(plane) as gateway:
        await eventually(gateway.is_ready)
        async with connected(gateway.url, token=shared_token("alice", exp=in_s(3_600))) as long:
            assert 3_590_000 < int(long.connected["token-expires-in-ms"]) <= 3_600_000
        ends_at = time.time() + 3
        client = await StompClient.connect(gateway.url, token=shared_token("alice", exp=ends_at))
        ends_in_ms = int(client.connected["token-expires-in-ms"])
        assert (ends_at - time.time()) * 1_000 - 1 <= ends_in_ms <= 3_000
        await client.subscribe("/user/queue/demo")
        error = await client.expect_error()
        assert time.time() > ends_at - 0.1, "not early; how late at most, the unit tests say on a clock of their own"
        assert error["message"] == "token expired"
        assert client.close_code == close_codes.TOKEN_EXPIRED.code
