"""Keeping keys: when they are read, which ones count, and who waits for newer ones."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth import key_refresher, key_schedule
from pushcluster_gateway.auth.key_refresher import (
    MAX_REFRESH_WAIT_S,
    MAX_UNREADABLE_S,
    MAX_WAITING_TOKENS,
    KeyRefresher,
    build_key_refresher,
)
from pushcluster_gateway.auth.key_schedule import FIRST_RETRY_S, MAX_RETRY_S, KeySchedule
from pushcluster_gateway.auth.key_sources import IssuerSource, SecretSource
from pushcluster_gateway.auth.keyring import Key, Keyring, parse_shared_keys
from pushcluster_gateway.auth.settings import AuthMode, AuthSettings
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics
from pushcluster_runtime.tasks import cancel
from tests.support.issuer import Authority, Issuer, SigningKey
from tests.support.waiting import eventually


class TestSchedule:
    def schedule(self, random: float = 0.5, refresh_s: float = 300) -> KeySchedule:
        return KeySchedule(refresh_s=refresh_s, min_interval_s=30, random=lambda: random)

    def test_reads_are_regular_and_pods_spread(self) -> None:
        assert [self.schedule(random).succeed() for random in (0.0, 0.5, 1.0)] == pytest.approx([270, 300, 330])

    def test_failures_are_repeated_ever_less_often_up_to_a_minute(self) -> None:
        schedule = self.schedule(random=1.0)
        delays = [schedule.fail() for _ in range(100)]
        assert delays[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
        assert delays[-1] == MAX_RETRY_S
        schedule.succeed()
        assert schedule.fail() == FIRST_RETRY_S

    def test_pods_that_failed_together_spread_over_the_second_half_of_the_wait(self) -> None:
        delays = [self.schedule(random).fail() for random in (0.0, 0.5, 1.0)]
        assert delays == [FIRST_RETRY_S / 2, FIRST_RETRY_S * 3 / 4, FIRST_RETRY_S]

    def test_a_failure_never_waits_longer_than_a_success(self) -> None:
        schedule = self.schedule(random=1.0, refresh_s=5)
        assert max(schedule.fail() for _ in range(10)) == 5

    def test_an_unknown_key_is_a_reason_once_in_the_interval(self) -> None:
        schedule = self.schedule()
        assert schedule.refresh_allowed_in_s(0.0) == 0
        schedule.begin(100.0)
        assert schedule.refresh_allowed_in_s(100.0) == 30
        assert schedule.refresh_allowed_in_s(129.5) == 0.5
        assert schedule.refresh_allowed_in_s(130.0) == 0
        assert schedule.refresh_allowed_in_s(1_000.0) == 0


class ScriptedSource:
    """Answers with what the test puts in."""

    location = "a test"

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Keyring | Exception] = asyncio.Queue()
        self.reads = 0

    async def read(self) -> Keyring:
        self.reads += 1
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Kept:
    refresher: KeyRefresher
    source: ScriptedSource
    metrics: Metrics
    now: list[float]


FIRST, SECOND = (parse_shared_keys({"hs256.key": key * 32}) for key in (b"1", b"2"))


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    async with keeping(ScriptedSource(), refresh_s=3_600) as running:
        yield running


@dataclass
class keeping:  # noqa: N801 - a context manager
    source: Any
    refresh_s: float
    min_interval_s: float = 30
    time_passes: bool = False
    """False: only what a test adds to `now`."""

    async def __aenter__(self) -> Kept:
        kept = self.build()
        self.task = asyncio.create_task(kept.refresher.run())
        return kept

    def build(self) -> Kept:
        """Return a refresher that nobody runs yet."""
        now, metrics, loop = [1_000.0], Metrics(), asyncio.get_running_loop()
        clock = loop.time if self.time_passes else lambda: now[0]
        schedule = KeySchedule(refresh_s=self.refresh_s, min_interval_s=self.min_interval_s, random=lambda: 0.0)
        refresher = KeyRefresher(self.source, schedule, metrics, Environment(clock, lambda: 0.0, bytes, lambda: 0.5))
        return Kept(refresher, self.source, metrics, now)

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def first_keys(kept: Kept) -> None:
    """Let the first read end."""
    kept.source.answers.put_nowait(FIRST)
    await eventually(lambda: kept.refresher.keyring is FIRST, within_s=5)


def failed_reads(kept: Kept, number: int) -> bool:
    return kept.metrics.key_reads["failed"] == number


class TestKeyRefresher:
    async def test_before_the_first_keys_it_says_why_there_are_none(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(key_schedule, "FIRST_RETRY_S", 0.01)
        assert kept.refresher.keyring is None
        assert "for the first time" in kept.refresher.last_error
        kept.source.answers.put_nowait(Unavailable("nobody there"))
        await eventually(lambda: kept.refresher.last_error == "a test: nobody there", within_s=2)
        kept.source.answers.put_nowait(FIRST)
        await eventually(lambda: kept.refresher.keyring is FIRST, within_s=5)
        assert kept.refresher.last_error == ""
        assert kept.metrics.key_reads == {"failed": 1, "ok": 1}

    async def test_the_last_keys_stay_while_others_cannot_be_read(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(FIRST)
            for error in (Unavailable("down"), InvalidInput("lies"), RuntimeError("nobody thought of this")):
                kept.source.answers.put_nowait(error)
                await eventually(kept.source.answers.empty, within_s=5)
                await eventually(lambda: kept.metrics.key_reads["failed"] >= 1, within_s=5)
                assert kept.refresher.keyring is FIRST
            kept.now[0] += 100
            assert kept.refresher.age_s == 100
            kept.source.answers.put_nowait(SECOND)
            await eventually(lambda: kept.refresher.keyring is SECOND, within_s=5)
            assert kept.refresher.age_s == 0

    async def test_keys_that_were_withdrawn_do_not_stay(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(FIRST)
            await eventually(lambda: kept.refresher.has_keys, within_s=5)
            kept.source.answers.put_nowait(Keyring((), ("it has no key for RS256",)))
            await eventually(lambda: not kept.refresher.has_keys, within_s=5)
            assert kept.refresher.last_error == "a test: it has no key for RS256"

    async def test_after_keys_were_withdrawn_a_failed_read_is_what_was_wrong_last(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(Keyring((), ("it has no key for RS256",)))
            kept.source.answers.put_nowait(Unavailable("down"))
            await eventually(partial(failed_reads, kept, 1), within_s=5)
            assert kept.refresher.last_error == "a test: down"

    async def test_keys_beside_ones_that_cannot_be_used_are_no_trouble(self, kept: Kept) -> None:
        usable = Keyring(FIRST.keys, ("one more has no kid",))
        kept.source.answers.put_nowait(usable)
        await eventually(lambda: kept.refresher.keyring is usable, within_s=5)
        assert kept.refresher.last_error == ""

    async def test_the_log_says_how_many_keys_stay(self, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            for answer in (Unavailable("not up yet"), FIRST, Unavailable("down"), Unavailable("down")):
                kept.source.answers.put_nowait(answer)
            await eventually(partial(failed_reads, kept, 3), within_s=30)
            fields = [record.__dict__ for record in caplog.records]
            assert [(each["cause"], each["kept"]) for each in fields if "kept" in each] == [
                ("not up yet", 0),
                ("down", len(FIRST.keys)),
            ]

    async def test_the_log_says_once_that_the_same_keys_can_be_read_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            for answer in (FIRST, FIRST, Unavailable("down"), FIRST, FIRST):
                kept.source.answers.put_nowait(answer)
            await eventually(lambda: kept.metrics.key_reads["ok"] == 4, within_s=5)
        said = [record.message for record in caplog.records if record.name == key_refresher.__name__]
        assert said == ["token keys read", "token keys cannot be read", "token keys can be read again"]

    async def test_the_log_names_the_keys_that_have_a_name(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(Keyring((Key("one", b"1"), Key(None, b"2"), Key("two", b"3"))))
            await eventually(lambda: kept.metrics.key_reads["ok"] == 1, within_s=5)
        (fields,) = (vars(record) for record in caplog.records if "named" in vars(record))
        assert (fields["keys"], fields["named"]) == (3, ["one", "two"])

    async def test_without_any_keys_the_log_does_not_say_that_old_ones_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            for failures in (1, 2):
                kept.source.answers.put_nowait(Unavailable("down"))
                await eventually(partial(failed_reads, kept, failures), within_s=5)
                kept.now[0] += MAX_UNREADABLE_S
        assert [record.message for record in caplog.records] == ["token keys cannot be read"]

    async def test_the_last_keys_end_when_none_could_be_read_for_too_long(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(FIRST)
            await eventually(lambda: kept.refresher.keyring, within_s=5)
            for failures, (waited_s, stays) in enumerate(((0, True), (MAX_UNREADABLE_S - 1, True), (1, False)), 1):
                kept.now[0] += waited_s
                kept.source.answers.put_nowait(Unavailable("down"))
                await eventually(partial(failed_reads, kept, failures), within_s=5)
                assert (kept.refresher.keyring is FIRST) is stays

    async def test_a_read_that_succeeds_lets_the_time_without_one_begin_anew(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            kept.source.answers.put_nowait(FIRST)
            kept.source.answers.put_nowait(Unavailable("down"))
            await eventually(partial(failed_reads, kept, 1), within_s=5)
            kept.now[0] += MAX_UNREADABLE_S - 1
            kept.source.answers.put_nowait(FIRST)
            kept.source.answers.put_nowait(Unavailable("down"))
            await eventually(partial(failed_reads, kept, 2), within_s=5)
            for passed_s, failures, stays in ((MAX_UNREADABLE_S - 1, 3, True), (1, 4, False)):
                kept.now[0] += passed_s
                kept.source.answers.put_nowait(Unavailable("down"))
                await eventually(partial(failed_reads, kept, failures), within_s=5)
                assert (kept.refresher.keyring is FIRST) is stays

    async def test_all_who_meet_an_unknown_key_share_one_question(self, kept: Kept) -> None:
        await first_keys(kept)
        kept.now[0] += 30
        asking = [asyncio.create_task(kept.refresher.refresh()) for _ in range(1_000)]
        await eventually(lambda: kept.source.reads == 2, within_s=2)
        assert not any(task.done() for task in asking)
        kept.source.answers.put_nowait(SECOND)
        assert all(await asyncio.gather(*asking)), "it began after they asked: the issuer has spoken"
        assert kept.refresher.keyring is SECOND
        assert kept.source.reads == 2

    async def test_strangers_cannot_make_it_ask_more_often(self, kept: Kept) -> None:
        await first_keys(kept)
        for second in range(25):
            with pytest.raises(Unavailable, match=f"read again in {30 - second} s"):
                await kept.refresher.refresh()
            kept.now[0] += 1
        waits = [asyncio.create_task(kept.refresher.refresh()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert kept.source.reads == 1
        for task in waits:
            task.cancel()

    async def test_a_client_that_returns_when_it_was_told_to_is_not_refused_again(self, kept: Kept) -> None:
        await first_keys(kept)
        kept.now[0] += 10
        with pytest.raises(Unavailable) as caught:
            await kept.refresher.refresh()
        assert caught.value.retry_after_ms == 20_000 - MAX_REFRESH_WAIT_S * 500, (
            "spread over the time that one may wait"
        )
        kept.now[0] += caught.value.retry_after_ms / 1_000
        waits = asyncio.create_task(kept.refresher.refresh())
        await asyncio.sleep(0.05)
        assert not waits.done()
        waits.cancel()

    async def test_a_key_that_was_published_just_after_a_read_is_waited_for(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=3_600, min_interval_s=0.3, time_passes=True) as kept:
            began = asyncio.get_running_loop().time()
            await first_keys(kept)
            kept.source.answers.put_nowait(SECOND)
            assert await kept.refresher.refresh()
            assert kept.refresher.keyring is SECOND
            assert kept.source.reads == 2
            assert asyncio.get_running_loop().time() - began >= 0.29, "no sooner than strangers may cause it"

    async def test_the_next_regular_read_is_waited_for_if_it_comes_first(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.3, time_passes=True) as kept:
            await first_keys(kept)
            kept.source.answers.put_nowait(SECOND)
            assert await kept.refresher.refresh()
            assert kept.refresher.keyring is SECOND

    async def test_a_running_read_may_return_the_key_but_a_missing_key_in_it_proves_nothing(self, kept: Kept) -> None:
        await eventually(lambda: kept.source.reads == 1, within_s=2)
        asking = asyncio.create_task(kept.refresher.refresh())
        await asyncio.sleep(0)
        kept.source.answers.put_nowait(FIRST)
        assert not await asking
        kept.now[0] += 30
        first = asyncio.create_task(kept.refresher.refresh())
        await eventually(lambda: kept.source.reads == 2, within_s=2)
        second = asyncio.create_task(kept.refresher.refresh())
        await asyncio.sleep(0)
        kept.source.answers.put_nowait(parse_shared_keys({"hs256.key": b"1" * 32}))
        assert await first
        with pytest.raises(Unavailable, match="read again in 30 s"):
            await second

    async def test_a_token_that_came_before_the_first_read_began_is_answered_by_it(self) -> None:
        kept = keeping(ScriptedSource(), refresh_s=3_600).build()
        asking = asyncio.create_task(kept.refresher.refresh())
        await asyncio.sleep(0)
        running = asyncio.create_task(kept.refresher.run())
        kept.source.answers.put_nowait(FIRST)
        assert await asking, "it began after the token came: the issuer has spoken"
        await cancel(running)

    async def test_equal_keys_leave_those_that_were_there(self) -> None:
        async with keeping(ScriptedSource(), refresh_s=0.01) as kept:
            await first_keys(kept)
            kept.source.answers.put_nowait(parse_shared_keys({"hs256.key": b"1" * 32}))
            await eventually(lambda: kept.metrics.key_reads["ok"] == 2, within_s=5)
            assert kept.refresher.keyring is FIRST

    async def test_one_token_more_than_may_wait_is_told_to_come_again(self, kept: Kept) -> None:
        asking = [asyncio.create_task(kept.refresher.refresh()) for _ in range(MAX_WAITING_TOKENS)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many"):
            async with asyncio.timeout(5):
                await kept.refresher.refresh()
        kept.source.answers.put_nowait(FIRST)
        await asyncio.gather(*asking)
        kept.now[0] += 30
        kept.source.answers.put_nowait(SECOND)
        assert await kept.refresher.refresh()

    async def test_a_client_that_leaves_while_it_waits_disturbs_nobody(self, kept: Kept) -> None:
        leaves, stays = (asyncio.create_task(kept.refresher.refresh()) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        kept.source.answers.put_nowait(FIRST)
        await stays
        assert kept.refresher.keyring is FIRST

    async def test_when_keys_cannot_be_read_who_asks_is_told_to_try_again(self, kept: Kept) -> None:
        asking = asyncio.create_task(kept.refresher.refresh())
        kept.source.answers.put_nowait(Unavailable("secret-host: nobody there"))
        with pytest.raises(Unavailable, match="cannot be read now") as caught:
            await asking
        assert "secret-host" not in str(caught.value), "strangers need not know where the issuer is"
        with pytest.raises(Unavailable):
            await kept.refresher.refresh()

    async def test_a_real_issuer_is_asked_again_and_again(self, issuer: Issuer, authority: Authority) -> None:
        key, next_key = SigningKey.make("one"), SigningKey.make("two")
        issuer.serve_keys(key)
        source = IssuerSource(issuer.url, Algorithm.RS256, authority.ca_file)
        async with keeping(source, refresh_s=0.05) as kept:

            def ids() -> list[str | None]:
                return [] if kept.refresher.keyring is None else [each.id for each in kept.refresher.keyring.keys]

            await eventually(lambda: ids() == ["one"], within_s=5)
            issuer.serve_keys(key, next_key)
            await eventually(lambda: ids() == ["one", "two"], within_s=5)
            issuer.serve_keys(next_key)
            await eventually(lambda: ids() == ["two"], within_s=5)
            issuer.serve(b"lies")
            await eventually(lambda: "not JSON" in kept.refresher.last_error, within_s=5)
            assert ids() == ["two"]


class TestBuild:
    """The settings choose where keys come from, and how often."""

    def build(self, mode: AuthMode = AuthMode.JWT, jwks_url: str = "", *, own_ca: bool = False) -> KeyRefresher | None:
        settings = AuthSettings(
            mode=mode,
            algorithm=Algorithm.RS256,
            keys_directory=Path("/keys"),
            jwks_url=jwks_url,
            jwks_refresh_s=77,
            jwks_own_ca=own_ca,
            issuer="",
            audiences=frozenset(),
            user_claim="sub",
            require_expiry=True,
        )
        environment = Environment(lambda: 0.0, lambda: 0.0, lambda size: b"x" * size, lambda: 0.5)
        return build_key_refresher(settings, Metrics(), environment)

    def test_mode_trusted_has_no_keys(self) -> None:
        assert self.build(AuthMode.TRUSTED) is None

    def test_without_an_address_the_keys_are_in_the_mounted_files_and_are_read_every_five_seconds(self) -> None:
        refresher = self.build()
        assert refresher is not None
        source = refresher._source
        assert isinstance(source, SecretSource)
        assert vars(source) == vars(SecretSource(Path("/keys"), Algorithm.RS256))
        assert refresher._schedule.succeed() == 5.0

    @pytest.mark.parametrize(("own_ca", "ca_file"), [(False, None), (True, Path("/keys/ca.crt"))])
    def test_with_an_address_the_issuer_is_asked_as_often_as_is_set(self, own_ca: bool, ca_file: Path | None) -> None:
        refresher = self.build(jwks_url="https://issuer/keys", own_ca=own_ca)
        assert refresher is not None
        source = refresher._source
        assert isinstance(source, IssuerSource)
        assert vars(source) == vars(IssuerSource("https://issuer/keys", Algorithm.RS256, ca_file))
        assert refresher._schedule.succeed() == 77.0
