"""Keeps the keys that verify tokens fresh, so that a rotated key reaches a running gateway.

Keys are read in the background: every `jwksRefreshSeconds` from the issuer, every 5 s from a mounted Secret
(`key_sources`). They are read once more when no key verifies a token: `authenticator` then waits for a read that began
after the token came, before it refuses the client. A read replaces the whole `Keyring`; while reads fail, the last keys
stay.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.tokens import CA_FILE
from pushcluster_gateway.auth.key_schedule import KeySchedule
from pushcluster_gateway.auth.key_sources import IssuerSource, KeySource, SecretSource
from pushcluster_gateway.auth.keyring import Keyring
from pushcluster_gateway.auth.settings import AuthMode, AuthSettings
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.metrics import Metrics

SECRET_REFRESH_S: Final = 5.0
"""How often a mounted Secret is read."""
SECRET_MIN_INTERVAL_S: Final = 1.0
"""Tokens that no key verifies cause at most one extra read of a Secret in this time."""
ISSUER_MIN_INTERVAL_S: Final = 30.0
"""Tokens that no key verifies cause at most one extra request to the issuer in this time.

The bound exists because any stranger can send such a token. Issuers publish a key before they sign with it. If one does
not, its users wait up to this long.
"""
MAX_REFRESH_WAIT_S: Final = 5.0
"""A CONNECT waits for a read that begins within this time. For a later read, its client is told when to try again.

Together with key_sources.JWKS_TIMEOUT_S it is the time that a client has for its CONNECT. So to hold a CONNECT back
costs a gateway no more than to wait for one.
"""
MAX_WAITING_TOKENS: Final = 2_000
"""Tokens that may wait for keys at the same time. Clients beyond it are told to try again."""
MAX_UNREADABLE_S: Final = 86_400.0
"""How long old keys stay valid while reads fail. Else whoever blocks the reads could keep a withdrawn key valid."""

_MAX_REASONS: Final = 4

_log = logging.getLogger(__name__)


class KeyRefresher:
    """`run` reads the keys. The last keys stay valid while reads fail, for MAX_UNREADABLE_S at most.

    A source without any key has withdrawn them all. Then the keyring is empty, and every token is refused.
    """

    def __init__(self, source: KeySource, schedule: KeySchedule, metrics: Metrics, environment: Environment) -> None:
        self._source = source
        self._schedule = schedule
        self._metrics = metrics
        self._clock = environment.clock
        self._random = environment.random
        self._keyring: Keyring | None = None
        self._read_at = 0.0
        self._failing_since: float | None = None
        self._last_error = "the keys are being read for the first time"
        self._reading = False
        self._due_at = 0.0
        self._waiting_tokens = 0
        self._refresh_wanted = asyncio.Event()
        self._read_ended = asyncio.Event()

    @property
    def keyring(self) -> Keyring | None:
        """The keys of the last successful read; None before that."""
        return self._keyring

    @property
    def last_error(self) -> str:
        """Why the last read failed or returned no key; else empty."""
        why = self._last_error
        if not why and not self.has_keys and self._keyring is not None:
            why = "; ".join(self._keyring.ignored[:_MAX_REASONS])
        return f"{self._source.location}: {why}" if why else ""

    @property
    def has_keys(self) -> bool:
        """Whether there is any key."""
        return self._keyring is not None and bool(self._keyring.keys)

    @property
    def age_s(self) -> float:
        """Seconds since the keys were last read; 0 before the first read."""
        return self._clock() - self._read_at if self._keyring is not None else 0.0

    @property
    def waiting_tokens(self) -> int:
        """How many tokens are waiting until the keys are read again."""
        return self._waiting_tokens

    async def run(self) -> None:
        """Read the keys again and again, until cancelled."""
        while True:
            delay_s = await self._read()
            self._due_at = self._clock() + delay_s
            self._refresh_wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._refresh_wanted.wait()
                    await asyncio.sleep(self._schedule.refresh_allowed_in_s(self._clock()))

    async def refresh(self) -> bool:
        """Wait for the next read, because no key verifies a token. All callers share one read.

        Return True after a read that began after this call: a token that still has no key is unknown to the source.
        Return False when a read that was already running returned other keys. Raise Unavailable when the keys cannot
        be read, or not soon.
        """
        if self._waiting_tokens >= MAX_WAITING_TOKENS:
            raise Unavailable("too many tokens wait for new keys")
        self._waiting_tokens += 1
        try:
            return await self._wait_for_refresh()
        finally:
            self._waiting_tokens -= 1

    async def _wait_for_refresh(self) -> bool:
        if self._reading:
            # The running read may have begun before the issuer published the key.
            before = self._keyring
            await self._read_ended.wait()
            self._require_readable()
            if self._keyring is not before:
                return False
        wait_s = self._schedule.refresh_allowed_in_s(self._clock())
        if wait_s:
            self._require_readable()
            wait_s = min(wait_s, max(0.0, self._due_at - self._clock()))
        if wait_s > MAX_REFRESH_WAIT_S:
            retry_after_s = wait_s - MAX_REFRESH_WAIT_S * self._random()
            raise Unavailable(
                f"the token's key is not known yet; keys are read again in {wait_s:.0f} s",
                retry_after_ms=round(retry_after_s * 1_000),
            )
        self._refresh_wanted.set()
        await self._read_ended.wait()
        self._require_readable()
        return True

    def _require_readable(self) -> None:
        if self._last_error:
            raise Unavailable("the keys that verify tokens cannot be read now")

    async def _read(self) -> float:
        """Read once. Return after how many seconds to read again."""
        self._reading = True
        self._schedule.begin(self._clock())
        try:
            keyring = await self._source.read()
        except (Unavailable, InvalidInput) as error:
            return self._failed(str(error))
        except Exception as error:
            # Whatever an issuer sends must not end the gateway.
            _log.exception("the keys that verify tokens cannot be read")
            return self._failed(type(error).__name__)
        else:
            return self._succeeded(keyring)
        finally:
            self._reading = False
            self._read_ended.set()
            self._read_ended = asyncio.Event()

    def _succeeded(self, keyring: Keyring) -> float:
        if keyring != self._keyring:
            self._keyring = keyring  # an equal keyring keeps the object, so that identify_after_refresh sees no change
            named = [key.id for key in keyring.keys if key.id is not None]
            _log.log(
                logging.INFO if keyring.keys else logging.WARNING,
                "token keys read" if keyring.keys else "all token keys are withdrawn: every token is refused",
                extra={"keys": len(keyring.keys), "named": named, "ignored": list(keyring.ignored)},
            )
        elif self._last_error:
            _log.info("token keys can be read again")
        self._read_at, self._last_error, self._failing_since = self._clock(), "", None
        self._metrics.key_reads["ok"] += 1
        return self._schedule.succeed() if keyring.keys else self._schedule.fail()

    def _failed(self, why: str) -> float:
        if why != self._last_error:
            kept = 0 if self._keyring is None else len(self._keyring.keys)
            _log.warning("token keys cannot be read", extra={"cause": why, "kept": kept})
        self._last_error = why
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        if self._keyring is not None and now - self._failing_since >= MAX_UNREADABLE_S:
            _log.error("token keys could not be read for too long: the old ones are not used any more")
            self._keyring = None
        self._metrics.key_reads["failed"] += 1
        return self._schedule.fail()


def build_key_refresher(settings: AuthSettings, metrics: Metrics, environment: Environment) -> KeyRefresher | None:
    """Return the refresher for these settings, or None in mode Trusted, which has no keys."""
    if settings.mode is AuthMode.TRUSTED:
        return None
    source: KeySource = SecretSource(settings.keys_directory, settings.algorithm)
    refresh_s, min_interval_s = SECRET_REFRESH_S, SECRET_MIN_INTERVAL_S
    if settings.jwks_url:
        ca_file = settings.keys_directory / CA_FILE if settings.jwks_own_ca else None
        source = IssuerSource(settings.jwks_url, settings.algorithm, ca_file)
        refresh_s, min_interval_s = settings.jwks_refresh_s, ISSUER_MIN_INTERVAL_S
    schedule = KeySchedule(refresh_s=refresh_s, min_interval_s=min_interval_s, random=environment.random)
    return KeyRefresher(source, schedule, metrics, environment)
