"""Which entries of a JWK set, and which files of a Secret, are keys."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth.jwks import MAX_RSA_BITS, parse_jwks
from pushcluster_gateway.auth.keyring import (
    MAX_IGNORED,
    MAX_KEY_FILE_BYTES,
    MAX_KEY_ID_CHARS,
    MAX_KEYS,
    MAX_TRIED_KEYS,
    Key,
    Keyring,
    parse_shared_keys,
)
from tests.support.issuer import SigningKey, jwks, public

RSA, OTHER_RSA = SigningKey.make("one"), SigningKey.make("two")
EC = SigningKey.make("ec", Algorithm.ES256)
SHARED = b"a shared key of at least 32 bytes"


class TestJwks:
    def test_keys_for_other_uses_are_passed_over(self) -> None:
        others: list[object] = [
            {**RSA.jwk, "use": "enc"},
            {**RSA.jwk, "alg": "RS512"},
            {**RSA.jwk, "key_ops": ["encrypt"]},
            {**RSA.jwk, "kid": 5},
            {**RSA.jwk, "kid": "x" * (MAX_KEY_ID_CHARS + 1)},
            {**RSA.jwk, "n": RSA.jwk["n"][:-20]},
            {**RSA.jwk, "n": "!" * 300},
            {**RSA.jwk, "n": 5},
            {**RSA.jwk, "e": "AA"},
            {"kty": "RSA"},
            {"kty": ["RSA"]},
            EC.jwk,
            "text",
            None,
            [],
        ]
        keyring = parse_jwks(json.dumps({"keys": [*others, OTHER_RSA.jwk]}).encode(), Algorithm.RS256)
        assert [key.id for key in keyring.keys] == ["two"]
        assert len(keyring.ignored) == len(others)

    def test_points_that_are_not_on_the_curve_are_passed_over(self) -> None:
        other = SigningKey.make("x", Algorithm.ES256)
        bad = [{**EC.jwk, "y": other.jwk["y"]}, {**EC.jwk, "crv": "P-384"}, {**EC.jwk, "x": "AA"}]
        keyring = public(*bad, EC, algorithm=Algorithm.ES256)
        assert [key.id for key in keyring.keys] == ["ec"]

    def test_a_private_key_that_was_published_is_used_as_the_public_one(self) -> None:
        private = {**RSAAlgorithm.to_jwk(RSA.private, as_dict=True), "key_ops": ["sign", "verify"], "kid": "one"}
        keyring = public(private)
        material = keyring.keys[0].material
        assert isinstance(material, RSAPublicKey)
        assert jwt.decode(RSA.token(), material, algorithms=["RS256"]) == {"sub": "alice"}

    def test_a_key_that_is_too_short_is_no_key(self) -> None:
        short = SigningKey.make("short", bits=1_024)
        keyring = public(short)
        assert keyring.keys == ()
        assert "2048 to 8192 bits" in keyring.ignored[-1]

    def test_a_key_that_would_cost_too_much_is_no_key(self) -> None:
        number = base64.urlsafe_b64encode(b"\xff" * (MAX_RSA_BITS // 8 + 1)).decode().rstrip("=")
        keyring = public({"kty": "RSA", "e": "AQAB", "n": number}, {"kty": "RSA", "e": "AQAB", "n": "f" * 9_000})
        assert keyring.keys == ()
        assert "bits" in keyring.ignored[-2]
        assert "too large" in keyring.ignored[-1]

    @pytest.mark.parametrize(
        "data",
        [b"", b"<html>", b"[]", b"null", b"5", b'{"keys": {}}', b'{"keys": null}', b"\xff\xfe",
         b"[" * 50_000, b'{"keys": ' + b"9" * 50_000 + b"}"],
    )  # fmt: skip
    def test_what_is_no_set_is_refused(self, data: bytes) -> None:
        with pytest.raises(InvalidInput):
            parse_jwks(data, Algorithm.RS256)

    @pytest.mark.parametrize("data", [b'{"keys": []}', b'{"keys": [' + b"{}," * 9_999 + b"{}]}", jwks(EC)])
    def test_a_set_without_a_key_of_ours_withdraws_all(self, data: bytes) -> None:
        keyring = parse_jwks(data, Algorithm.RS256)
        assert keyring.keys == ()
        assert keyring.ignored[0] == "it has no key for RS256"

    def test_of_one_entry_more_than_are_kept_only_the_number_is(self) -> None:
        keyring = public(RSA, *[{}] * MAX_IGNORED)
        assert len(keyring.ignored) == MAX_IGNORED
        assert keyring.ignored[-1] == f"keys[{MAX_IGNORED}]: it is not a JWK"
        keyring = public({}, RSA, *[{}] * MAX_IGNORED)
        assert keyring.ignored[-2:] == (f"keys[{MAX_IGNORED}]: it is not a JWK", "and 1 more")
        assert len(public(*[{}] * 9_000).ignored) == MAX_IGNORED + 2

    def test_one_byte_and_one_key_more_than_a_set_may_have_are_refused(self) -> None:
        whole = jwks(RSA)
        assert parse_jwks(whole.ljust(MAX_KEY_FILE_BYTES), Algorithm.RS256).keys
        with pytest.raises(InvalidInput, match="more than 65536 bytes"):
            parse_jwks(whole.ljust(MAX_KEY_FILE_BYTES + 1), Algorithm.RS256)
        keys = [{**RSA.jwk, "kid": str(n)} for n in range(MAX_KEYS + 1)]
        assert len(public(*keys[:-1]).keys) == MAX_KEYS
        with pytest.raises(InvalidInput, match="more than 32 keys"):
            public(*keys)


class TestSharedKeys:
    @pytest.mark.parametrize(
        "files",
        [{}, {"hs256.second.key": SHARED}, {"hs256.key": SHARED[:31]}, {"hs256.key": b" " * 40},
         {"hs256.key": RSA.public_pem}],
    )  # fmt: skip
    def test_a_secret_without_a_first_key_that_is_long_enough_has_none(self, files: dict[str, bytes]) -> None:
        keyring = parse_shared_keys(files)
        assert keyring.keys == ()
        assert "hs256.key" in keyring.ignored[0]

    def test_a_second_key_that_is_none_is_passed_over_and_named(self) -> None:
        keyring = parse_shared_keys({"hs256.key": SHARED, "hs256.second.key": b""})
        assert [key.material for key in keyring.keys] == [SHARED]
        assert "hs256.second.key has 0 bytes" in keyring.ignored[0]

    def test_white_space_that_is_no_line_end_belongs_to_the_key(self) -> None:
        (key,) = parse_shared_keys({"hs256.key": b" " + SHARED + b"\t\r\n"}).keys
        assert key.material == b" " + SHARED + b"\t"

    def test_keys_do_not_show(self) -> None:
        assert "shared" not in repr(parse_shared_keys({"hs256.key": SHARED}))


class TestCandidates:
    NAMED = (Key("one", b"1"), Key("two", b"2"))
    NAMELESS = (Key(None, b"3"), Key(None, b"4"))

    @pytest.mark.parametrize(
        ("key_id", "tried"),
        [(None, b"1234"), ("two", b"2"), ("unknown", b"34")],
        ids=["the token names none", "the token names one", "the token names another"],
    )
    def test_of_few_keys_those_are_tried_that_the_token_allows(self, key_id: str | None, tried: bytes) -> None:
        keyring = Keyring((*self.NAMED, *self.NAMELESS))
        assert len(keyring.keys) == MAX_TRIED_KEYS
        assert [key.material for key in keyring.candidates(key_id)] == [bytes([each]) for each in tried]

    def test_of_one_key_more_a_token_without_a_name_gets_those_without_one(self) -> None:
        keyring = Keyring((*self.NAMED, Key("three", b"5"), *self.NAMELESS))
        assert keyring.candidates(None) == self.NAMELESS
