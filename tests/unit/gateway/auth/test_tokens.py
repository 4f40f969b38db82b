"""Which tokens prove who a client is: signatures, the pinned algorithm, claims; and the attacks that are known."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any, ClassVar

import jwt
import pytest

from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway import close_codes
from pushcluster_gateway.auth.authenticator import JwtAuthenticator, KeyUnknown
from pushcluster_gateway.auth.claims import (
    CLOCK_SKEW_S,
    MAX_TIME_S,
    AuthenticatedUser,
    ClaimRules,
)
from pushcluster_gateway.auth.keyring import (
    MAX_KEY_ID_CHARS,
    MAX_TRIED_KEYS,
    Key,
    Keyring,
    parse_shared_keys,
)
from pushcluster_gateway.stomp.errors import Unauthenticated
from pushcluster_gateway.stomp.frames import HeartBeat, Version
from pushcluster_gateway.stomp.requests import Connect
from tests.support.fake_services import FixedKeys
from tests.support.issuer import SigningKey, public

RSA, OTHER_RSA = SigningKey.make("one"), SigningKey.make("two")
EC = SigningKey.make("ec", Algorithm.ES256)
NAMELESS = SigningKey(None, Algorithm.RS256, RSA.private)
SHARED = b"a shared key of at least 32 bytes"
NOW = 1_000_000.0


def check(
    token: str, keyring: Keyring | None, algorithm: Algorithm = Algorithm.RS256, **rules: Any
) -> AuthenticatedUser:
    claims = ClaimRules(**{"user_claim": "sub", "require_expiry": False, **rules})
    authenticator = JwtAuthenticator(algorithm, claims, FixedKeys(keyring), lambda: NOW)
    return authenticator.identify(Connect(Version.V1_2, HeartBeat(), "", token), "")


def renamed(number: int) -> list[SigningKey]:
    """Return keys that did not sign what RSA did."""
    return [SigningKey(f"other {n}", Algorithm.RS256, OTHER_RSA.private) for n in range(number)]


def unsigned(header: dict[str, Any], claims: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def hmac_signed(header: dict[str, Any], claims: object, key: bytes) -> str:
    signing_input = unsigned(header, claims).rpartition(".")[0]
    signature = hmac.digest(key, signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class TestSignatures:
    def test_each_algorithm_lets_in_who_is_signed_with_it(self) -> None:
        assert check(RSA.token(), public(RSA)).user == "alice"
        assert check(EC.token(), public(EC, algorithm=Algorithm.ES256), Algorithm.ES256).user == "alice"
        shared = parse_shared_keys({"hs256.key": SHARED})
        assert check(jwt.encode({"sub": "alice"}, SHARED), shared, Algorithm.HS256).user == "alice"

    def test_the_key_is_found_by_its_name(self) -> None:
        assert check(OTHER_RSA.token(), public(RSA, OTHER_RSA)).user == "alice"

    def test_a_token_without_a_key_id_is_checked_against_all(self) -> None:
        assert check(NAMELESS.token(), public(OTHER_RSA, RSA)).user == "alice"
        assert check(NAMELESS.token(), public(*renamed(MAX_TRIED_KEYS - 1), RSA)).user == "alice"

    def test_a_token_without_a_key_id_must_have_one_where_there_are_more_keys_than_are_tried(self) -> None:
        with pytest.raises(Unauthenticated, match=r"names no key \(kid\), and the issuer has more than the 4 keys"):
            check(NAMELESS.token(), public(*renamed(MAX_TRIED_KEYS), RSA))
        assert check(RSA.token(), public(*renamed(MAX_TRIED_KEYS), RSA)).user == "alice"
        assert check(NAMELESS.token(), public(*renamed(MAX_TRIED_KEYS), NAMELESS)).user == "alice"

    def test_no_token_is_checked_against_more_keys_than_are_tried(self) -> None:
        for key, copies, token in (
            (NAMELESS, [NAMELESS] * MAX_TRIED_KEYS, NAMELESS.token()),
            (NAMELESS, [NAMELESS] * MAX_TRIED_KEYS, RSA.token()),
            (RSA, [RSA] * MAX_TRIED_KEYS, RSA.token()),
        ):
            assert check(token, public(*copies)).user == "alice"
            with pytest.raises(Unauthenticated, match="5 keys that may have signed the token"):
                check(token, public(*copies, key))

    def test_a_key_without_a_name_checks_tokens_of_any_name(self) -> None:
        assert check(RSA.token(), public(NAMELESS)).user == "alice"

    def test_a_key_that_is_not_known_may_be_a_newer_one(self) -> None:
        for token, keyring in (
            (OTHER_RSA.token(), public(RSA)),
            (SigningKey(None, Algorithm.RS256, OTHER_RSA.private).token(), public(RSA)),
            (OTHER_RSA.token(), public(NAMELESS)),
            (RSA.token(), None),
        ):
            with pytest.raises(KeyUnknown):
                check(token, keyring)

    def test_a_key_that_did_not_sign_may_have_been_exchanged_under_its_name(self) -> None:
        with pytest.raises(KeyUnknown, match="signature"):
            check(SigningKey("one", Algorithm.RS256, OTHER_RSA.private).token(), public(RSA))

    def test_both_shared_keys_are_accepted_and_no_third(self) -> None:
        keyring = parse_shared_keys({"hs256.key": b"1" * 32 + b"\n", "hs256.second.key": b"2" * 32})
        for key in (b"1" * 32, b"2" * 32):
            assert check(jwt.encode({"sub": "alice"}, key), keyring, Algorithm.HS256).user == "alice"
        with pytest.raises(KeyUnknown):
            check(jwt.encode({"sub": "alice"}, b"3" * 32), keyring, Algorithm.HS256)


class NewerKeys:
    """Other keys after each question; the last one is asked after the token came."""

    def __init__(self, first: Keyring | None, *later: Keyring) -> None:
        self.keyring = first
        self.later = list(later)

    async def refresh(self) -> bool:
        self.keyring = self.later.pop(0)
        return not self.later


class CountedKeyring(Keyring):
    """Notes what it was asked for."""

    asked: ClassVar[list[str | None]] = []

    def candidates(self, key_id: str | None) -> tuple[Key, ...]:
        self.asked.append(key_id)
        return super().candidates(key_id)


class TestNewerKeys:
    async def identify_after_refresh(self, token: str, *keyrings: Keyring | None) -> AuthenticatedUser:
        first, *later = keyrings
        keys = NewerKeys(first, *(keyring for keyring in later if keyring is not None))
        rules = ClaimRules("sub", require_expiry=False)
        authenticator = JwtAuthenticator(Algorithm.RS256, rules, keys, lambda: NOW)
        connect = Connect(Version.V1_2, HeartBeat(), "", token)
        with pytest.raises(KeyUnknown) as unknown:
            authenticator.identify(connect, "")
        return await authenticator.identify_after_refresh(connect, "", unknown.value)

    async def test_a_key_that_was_read_since_lets_its_tokens_in(self) -> None:
        for before in (public(RSA), None):
            assert (
                await self.identify_after_refresh(OTHER_RSA.token(), before, public(RSA, OTHER_RSA))
            ).user == "alice"
        assert (
            await self.identify_after_refresh(OTHER_RSA.token(), None, public(RSA), public(OTHER_RSA))
        ).user == "alice"

    async def test_a_key_that_was_exchanged_under_the_same_name_lets_its_tokens_in(self) -> None:
        exchanged = SigningKey("one", Algorithm.RS256, OTHER_RSA.private)
        assert (await self.identify_after_refresh(exchanged.token(), public(RSA), public(exchanged))).user == "alice"

    async def test_keys_that_changed_meanwhile_are_tried_without_a_refresh(self) -> None:
        keys = NewerKeys(public(RSA))
        authenticator = JwtAuthenticator(Algorithm.RS256, ClaimRules("sub", require_expiry=False), keys, lambda: NOW)
        connect = Connect(Version.V1_2, HeartBeat(), "", OTHER_RSA.token())
        with pytest.raises(KeyUnknown) as unknown:
            authenticator.identify(connect, "")
        keys.keyring = public(RSA, OTHER_RSA)
        assert (await authenticator.identify_after_refresh(connect, "", unknown.value)).user == "alice"

    async def test_keys_that_were_read_before_the_token_came_do_not_refuse_it(self) -> None:
        with pytest.raises(Unauthenticated, match="'two' is not among those of the issuer"):
            await self.identify_after_refresh(OTHER_RSA.token(), public(), public(RSA), public(EC))

    @pytest.mark.parametrize("name", [None, "one"])
    async def test_keys_that_did_not_change_are_not_tried_twice(self, name: str | None) -> None:
        keyring = CountedKeyring(public(RSA).keys)
        CountedKeyring.asked.clear()
        with pytest.raises(Unauthenticated, match="signature"):
            await self.identify_after_refresh(
                SigningKey(name, Algorithm.RS256, OTHER_RSA.private).token(), keyring, keyring
            )
        assert CountedKeyring.asked == [name]


class TestAttacks:
    @pytest.mark.parametrize("algorithm", list(Algorithm))
    @pytest.mark.parametrize("name", ["none", "None", "NONE", "", "RS257", None, 5, ["RS256"], {"RS256": 1}])
    def test_no_other_algorithm_is_followed(self, algorithm: Algorithm, name: object) -> None:
        keyring = parse_shared_keys({"hs256.key": SHARED}) if algorithm is Algorithm.HS256 else public(RSA)
        with pytest.raises(Unauthenticated, match=rf"not signed with {algorithm}|cannot be read"):
            check(unsigned({"alg": name, "kid": "one"}, {"sub": "alice"}), keyring, algorithm)

    @pytest.mark.parametrize("key", [RSA.public_pem, RSA.public_pem.strip(), json.dumps(RSA.jwk).encode(), b""])
    def test_the_public_key_is_no_shared_secret(self, key: bytes) -> None:
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "one"}):
            with pytest.raises(Unauthenticated, match="not signed with RS256"):
                check(hmac_signed(header, {"sub": "alice"}, key), public(RSA))

    def test_a_shared_secret_that_an_issuer_publishes_is_no_key(self) -> None:
        secret = {"kty": "oct", "k": base64.urlsafe_b64encode(SHARED).decode().rstrip("="), "kid": "one"}
        keyring = public(RSA, secret)
        assert [key.id for key in keyring.keys] == ["one"]
        with pytest.raises(Unauthenticated):
            check(hmac_signed({"alg": "HS256", "kid": "one"}, {"sub": "alice"}, SHARED), keyring)

    def test_a_key_that_the_token_brings_along_is_not_used(self) -> None:
        for header in ({"jwk": OTHER_RSA.jwk}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example"}):
            forged = SigningKey("one", Algorithm.RS256, OTHER_RSA.private).token(headers=header)
            with pytest.raises(KeyUnknown, match="signature"):
                check(forged, public(RSA))

    def test_another_algorithm_of_the_same_kind_is_refused(self) -> None:
        for algorithm in ("RS384", "RS512", "PS256"):
            token = jwt.encode({"sub": "alice"}, RSA.private, algorithm=algorithm, headers={"kid": "one"})
            with pytest.raises(Unauthenticated, match="not signed with RS256"):
                check(token, public(RSA))

    @pytest.mark.parametrize("kid", ["x" * (MAX_KEY_ID_CHARS + 1), 5, None, ["one"], {}])
    def test_a_key_id_that_is_none_is_refused(self, kid: object) -> None:
        with pytest.raises(Unauthenticated, match=r"kid|Key ID"):
            check(unsigned({"alg": "RS256", "kid": kid}, {"sub": "alice"}), public(RSA))

    @pytest.mark.parametrize(
        "token",
        [
            "", ".", "..", "...", "a.b.c", "é.é.é", "\0", "." * 9_999, "e30.e30.", "W10.W10.W10", "bnVsbA.e30.x",
            base64.urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.x",
            base64.urlsafe_b64encode(b'{"alg":"RS256","x":' + b"[" * 9_000).decode() + ".e30.x",
        ],
    )  # fmt: skip
    def test_garbage_is_refused_and_nothing_else_happens(self, token: str) -> None:
        with pytest.raises(Unauthenticated):
            check(token, public(RSA))

    @pytest.mark.parametrize("claims", ["text", [], None, 5])
    def test_claims_that_are_no_object_are_refused(self, claims: object) -> None:
        with pytest.raises(Unauthenticated, match="cannot be read"):
            check(
                hmac_signed({"alg": "HS256"}, claims, SHARED), parse_shared_keys({"hs256.key": SHARED}), Algorithm.HS256
            )

    def test_what_the_token_calls_critical_and_nobody_understands_is_refused(self) -> None:
        token = RSA.token(headers={"crit": ["exp-at-noon"], "exp-at-noon": True})
        with pytest.raises(Unauthenticated, match="cannot be read"):
            check(token, public(RSA))


class TestClaims:
    def identify(self, claims: dict[str, object], **rules: Any) -> AuthenticatedUser:
        rules = {"user_claim": "sub", "require_expiry": False, **rules}
        return ClaimRules(**rules).identify({"sub": "alice", **claims}, NOW)

    def test_the_issuer_is_compared_letter_for_letter(self) -> None:
        issuer = "https://issuer.example"
        assert self.identify({"iss": issuer}, issuer=issuer).user == "alice"
        for wrong in ("https://issuer.example/", "HTTPS://issuer.example", "", None, 5, [issuer]):
            with pytest.raises(Unauthenticated, match="'iss'"):
                self.identify({"iss": wrong}, issuer=issuer)
        with pytest.raises(Unauthenticated, match="'iss'"):
            self.identify({}, issuer=issuer)
        assert self.identify({"iss": "anybody"}).user == "alice"

    def test_one_audience_of_ours_is_enough(self) -> None:
        ours = frozenset({"push", "web"})
        for audience in ("push", ["web"], ["other", "push"], ["push", 5]):
            assert self.identify({"aud": audience}, audiences=ours).user == "alice"
        for wrong in ("pus", "push ", "", "push web", [], ["other"], None, 5, {"push": 1}, [["push"]]):
            with pytest.raises(Unauthenticated, match="'aud'"):
                self.identify({"aud": wrong}, audiences=ours)
        with pytest.raises(Unauthenticated, match="'aud'"):
            self.identify({}, audiences=ours)
        assert self.identify({"aud": "another service"}).user == "alice"

    def test_a_token_ends_when_it_says(self) -> None:
        assert self.identify({"exp": NOW + 0.5}).expires_s == NOW + 0.5
        assert self.identify({}).expires_s is None
        for ended in (NOW, NOW - 1, 0, -5):
            with pytest.raises(Unauthenticated, match="expired"):
                self.identify({"exp": ended})

    def test_a_token_must_end_unless_the_author_lets_it_last_for_ever(self) -> None:
        assert ClaimRules("sub").identify({"sub": "alice", "exp": NOW + 1}, NOW).expires_s == NOW + 1
        for endless in ({}, {"exp": None}):
            with pytest.raises(Unauthenticated, match="no claim 'exp'"):
                ClaimRules("sub").identify({"sub": "alice", **endless}, NOW)
            assert ClaimRules("sub", require_expiry=False).identify({"sub": "alice", **endless}, NOW).expires_s is None

    def test_a_clock_that_is_a_little_ahead_is_no_reason_to_refuse(self) -> None:
        assert self.identify({"nbf": NOW + CLOCK_SKEW_S}).user == "alice"
        with pytest.raises(Unauthenticated, match="not valid yet"):
            self.identify({"nbf": NOW + CLOCK_SKEW_S + 1})

    @pytest.mark.parametrize(
        ("begins_in_s", "says_s", "retry_after_ms"),
        [(0.1, 1, 100), (37, 37, 37_000), (86_400, 86_400, 86_400_000), (86_401, 86_401, 86_400_000)],
    )
    def test_a_token_that_is_not_valid_yet_says_when_to_come_again_and_at_least_once_a_day(
        self, begins_in_s: float, says_s: int, retry_after_ms: int
    ) -> None:
        with pytest.raises(Unauthenticated, match=f" in {says_s} s") as caught:
            self.identify({"nbf": NOW + CLOCK_SKEW_S + begins_in_s})
        assert caught.value.retry_after_ms == retry_after_ms
        assert caught.value.ending == replace(close_codes.NOT_AUTHENTICATED, retry_after_ms=retry_after_ms)

    def test_any_other_token_that_is_refused_does_not_say_when_to_come_again(self) -> None:
        with pytest.raises(Unauthenticated) as caught:
            self.identify({"exp": NOW})
        assert caught.value.ending is close_codes.NOT_AUTHENTICATED

    @pytest.mark.parametrize("claim", ["exp", "nbf"])
    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), float("-inf"), 10**400, MAX_TIME_S + 1, "1", True, [], {}]
    )
    def test_what_is_no_time_is_refused(self, claim: str, value: object) -> None:
        with pytest.raises(Unauthenticated, match=f"'{claim}' is not a number"):
            self.identify({claim: value})

    def test_the_claim_that_names_the_user_can_be_another(self) -> None:
        assert self.identify({"email": "a@example.com"}, user_claim="email").user == "a@example.com"
        with pytest.raises(Unauthenticated, match="'email'"):
            self.identify({}, user_claim="email")

    def test_the_name_of_that_claim_is_one_name_and_no_path(self) -> None:
        for name in ("app.user", "https://app.example/user"):
            assert self.identify({name: "bob"}, user_claim=name).user == "bob"
        with pytest.raises(Unauthenticated, match=r"'app\.user'"):
            self.identify({"app": {"user": "bob"}}, user_claim="app.user")
