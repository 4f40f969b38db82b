"""The shared key of HS256: what the operator accepts and what gateways check tokens with are the same."""

import jwt
import pytest

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import parse_shared_key
from tests.support.issuer import SigningKey

PEM = SigningKey.make("one").public_pem


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_line_ends_behind_a_key_do_not_count(end: bytes) -> None:
    assert parse_shared_key(b"k" * 32 + end, name="hs256.key") == b"k" * 32


@pytest.mark.parametrize(
    "key",
    [b" " + b"k" * 32 + b"\t", b"\n" + b"k" * 32, b"\x0b" + b"\xff" * 31, b"\xff" * 31 + b"\n", b"\xff" * 40 + b"\r\n"],
)
def test_every_other_octet_is_part_of_the_key(key: bytes) -> None:
    assert parse_shared_key(key, name="hs256.key") == key
    assert jwt.decode(jwt.encode({"sub": "alice"}, key), key, algorithms=["HS256"]) == {"sub": "alice"}


@pytest.mark.parametrize("content", [b"", b" " * 40, b"k" * 31, b"k" * 31 + b"\n"])
def test_a_key_of_less_than_32_bytes_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"hs256\.key has \d+ bytes; HS256 needs at least 32"):
        parse_shared_key(content, name="hs256.key")


@pytest.mark.parametrize(
    "content",
    [PEM, b"\n" + PEM, b"a note\n" + PEM, b"---- BEGIN SSH2 PUBLIC KEY ----\n" + b"k" * 40,
     b"ssh-ed25519 " + b"A" * 40, b"ecdsa-sha2-nistp256 " + b"A" * 40],
)  # fmt: skip
def test_a_public_or_private_key_is_no_shared_one(content: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"hs256\.key is a public or private key") as error:
        parse_shared_key(content, name="hs256.key")
    assert "AAAA" not in str(error.value)
