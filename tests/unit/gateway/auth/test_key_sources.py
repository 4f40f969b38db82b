"""Where keys come from: a real issuer over HTTPS that is honest, slow, down or lying, and a mounted Secret."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.tokens import Algorithm
from pushcluster_gateway.auth import key_sources
from pushcluster_gateway.auth.key_sources import IssuerSource, SecretSource
from pushcluster_gateway.auth.keyring import MAX_KEY_FILE_BYTES, Keyring
from tests.support.issuer import Authority, Issuer, SigningKey, jwks, running_issuer
from tests.support.waiting import eventually

KEY = SigningKey.make("one")


@pytest.fixture
def issuer(issuer: Issuer) -> Issuer:
    issuer.serve_keys(KEY)
    return issuer


def source(issuer: Issuer, authority: Authority | None) -> IssuerSource:
    return IssuerSource(issuer.url, Algorithm.RS256, None if authority is None else authority.ca_file)


def ids(keyring: Keyring | None) -> list[str | None]:
    return [] if keyring is None else [key.id for key in keyring.keys]


class TestIssuer:
    async def test_its_keys_are_read_over_tls_that_its_authority_vouches_for(
        self, issuer: Issuer, authority: Authority
    ) -> None:
        assert ids(await source(issuer, authority).read()) == ["one"]
        (request,) = issuer.requests
        assert request.startswith(b"GET /.well-known/jwks.json HTTP/1.1\r\n")
        assert b"Accept-Encoding: identity\r\n" in request

    async def test_an_authority_that_nobody_named_vouches_for_nobody(self, issuer: Issuer, tmp_path: Path) -> None:
        for other in (None, Authority(tmp_path / "other")):
            with pytest.raises(Unavailable, match=r"(?i)certificate"):
                await source(issuer, other).read()
        assert issuer.requests == [], "not even the question was sent"

    async def test_a_certificate_for_another_name_is_refused(self, authority: Authority) -> None:
        async with running_issuer(authority.server_context("issuer.example")) as issuer:
            issuer.serve_keys(KEY)
            with pytest.raises(Unavailable, match=r"(?i)certificate"):
                await source(issuer, authority).read()
            assert issuer.requests == []

    async def test_plain_http_is_read_where_the_settings_let_it_through(self) -> None:
        async with running_issuer(None) as issuer:
            issuer.serve_keys(KEY)
            assert ids(await source(issuer, None).read()) == ["one"]

    async def test_an_answer_without_tls_is_refused(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(key_sources, "JWKS_TIMEOUT_S", 0.5)
        async with running_issuer(None) as issuer:
            issuer.scheme = "https"
            issuer.serve_keys(KEY)
            with pytest.raises(Unavailable):
                await source(issuer, authority).read()

    @pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff"])
    async def test_a_bundle_of_authorities_that_is_none_is_named(
        self, issuer: Issuer, authority: Authority, content: bytes
    ) -> None:
        authority.ca_file.write_bytes(content)
        with pytest.raises(Unavailable, match=r"ca\.crt"):
            await source(issuer, authority).read()

    async def test_without_its_bundle_the_public_authorities_are_not_trusted_instead(
        self, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: object, **options: object) -> ssl.SSLContext:
            raise AssertionError("somebody else is trusted")

        monkeypatch.setattr(ssl, "create_default_context", forbidden)
        authority.ca_file.unlink()
        with pytest.raises(Unavailable, match=r"ca\.crt is not there"):
            await source(issuer, authority).read()

    async def test_a_renewed_bundle_counts_at_the_next_question(self, issuer: Issuer, authority: Authority) -> None:
        reader = source(issuer, authority)
        good = authority.ca_file.read_bytes()
        authority.ca_file.write_bytes(b"not yet")
        with pytest.raises(Unavailable):
            await reader.read()
        authority.ca_file.write_bytes(good)
        assert ids(await reader.read()) == ["one"]

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "404 Gone", "500 No", "203 Other"])
    async def test_only_200_is_an_answer_and_redirects_are_not_followed(
        self, issuer: Issuer, authority: Authority, status: str
    ) -> None:
        async with running_issuer(None) as elsewhere:
            elsewhere.serve_keys(KEY)
            issuer.serve(jwks(KEY), f"Location: {elsewhere.url}", status=status)
            with pytest.raises(Unavailable, match=f"status {status[:3]}"):
                await source(issuer, authority).read()
            assert elsewhere.requests == []

    @pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b"{}", b"\x00" * 100])
    async def test_an_answer_that_is_no_set_is_refused(self, issuer: Issuer, authority: Authority, body: bytes) -> None:
        issuer.serve(body)
        with pytest.raises(InvalidInput):
            await source(issuer, authority).read()

    async def test_one_byte_too_many_is_refused(self, issuer: Issuer, authority: Authority) -> None:
        issuer.serve(jwks(KEY).ljust(MAX_KEY_FILE_BYTES))
        assert ids(await source(issuer, authority).read()) == ["one"]
        issuer.serve(jwks(KEY).ljust(MAX_KEY_FILE_BYTES + 1))
        with pytest.raises(Unavailable, match="more than 65536 bytes"):
            await source(issuer, authority).read()

    async def test_a_body_without_end_is_cut(self, issuer: Issuer, authority: Authority) -> None:
        sent = 0

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while sent < 256 << 20:
                writer.write(b"1000\r\n" + b" " * 4_096 + b"\r\n")
                await writer.drain()
                sent += 4_096

        issuer.answer = endless
        with pytest.raises(Unavailable, match="more than 65536 bytes"):
            await source(issuer, authority).read()
        await eventually(lambda: sent < 16 << 20, within_s=1)

    async def test_headers_without_end_are_cut(self, issuer: Issuer, authority: Authority) -> None:
        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X-Header: " + b"x" * 1_000 + b"\r\n")
                await writer.drain()

        issuer.answer = endless
        with pytest.raises(Unavailable):
            await source(issuer, authority).read()

    async def test_a_compressed_answer_is_not_unpacked(self, issuer: Issuer, authority: Authority) -> None:
        issuer.serve(b"\x1f\x8b" + b"\0" * 100, "Content-Encoding: gzip")
        with pytest.raises(Unavailable, match="compressed"):
            await source(issuer, authority).read()

    @pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{"])
    async def test_an_answer_that_takes_too_long_is_given_up(
        self, issuer: Issuer, authority: Authority, monkeypatch: pytest.MonkeyPatch, first: bytes
    ) -> None:
        monkeypatch.setattr(key_sources, "JWKS_TIMEOUT_S", 0.5)
        closed = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            with suppress(ConnectionError):
                await reader.read()
            closed.set()

        issuer.answer = slow
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            await source(issuer, authority).read()
        async with asyncio.timeout(5):
            await closed.wait()

    async def test_an_issuer_that_does_not_answer_is_unavailable(self, authority: Authority) -> None:
        async with running_issuer(None) as gone:
            gone.scheme = "https"
        with pytest.raises(Unavailable, match="onnect"):
            await source(gone, authority).read()


class TestSecret:
    async def test_shared_keys_are_read_as_they_are_now(self, tmp_path: Path) -> None:
        secret = SecretSource(tmp_path, Algorithm.HS256)
        assert (await secret.read()).keys == ()
        (tmp_path / "hs256.key").write_bytes(b"1" * 32)
        assert [key.material for key in (await secret.read()).keys] == [b"1" * 32]
        (tmp_path / "hs256.second.key").write_bytes(b"2" * 32)
        assert [key.material for key in (await secret.read()).keys] == [b"1" * 32, b"2" * 32]

    async def test_a_set_in_a_secret_is_read_like_one_of_an_issuer(self, tmp_path: Path) -> None:
        secret = SecretSource(tmp_path, Algorithm.RS256)
        assert await secret.read() == Keyring((), ("the Secret, or its key jwks.json, is not there",))
        (tmp_path / "jwks.json").write_bytes(jwks(KEY))
        assert ids(await secret.read()) == ["one"]
        (tmp_path / "jwks.json").write_bytes(b"none")
        assert ids(await secret.read()) == []

    async def test_a_file_of_one_byte_too_many_is_refused(self, tmp_path: Path) -> None:
        secret = SecretSource(tmp_path, Algorithm.HS256)
        (tmp_path / "hs256.key").write_bytes(b"x" * MAX_KEY_FILE_BYTES)
        await secret.read()
        (tmp_path / "hs256.key").write_bytes(b"x" * (MAX_KEY_FILE_BYTES + 1))
        with pytest.raises(Unavailable, match="more than 65536 bytes"):
            await secret.read()

    async def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "hs256.key").mkdir()
        with pytest.raises(Unavailable, match=r"hs256\.key cannot be read"):
            await SecretSource(tmp_path, Algorithm.HS256).read()

    async def test_the_kubelets_exchange_of_the_directory_is_seen(self, tmp_path: Path) -> None:
        """A mounted Secret is a link to a directory that is replaced as a whole."""
        for name, key in (("first", b"1"), ("second", b"2")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "hs256.key").write_bytes(key * 32)
        (tmp_path / "..data").symlink_to("first")
        (tmp_path / "hs256.key").symlink_to("..data/hs256.key")
        secret = SecretSource(tmp_path, Algorithm.HS256)
        assert (await secret.read()).keys[0].material == b"1" * 32
        (tmp_path / "..data_tmp").symlink_to("second")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert (await secret.read()).keys[0].material == b"2" * 32
