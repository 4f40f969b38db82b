"""Reads keys from a mounted Secret, or from an issuer over HTTPS. `keyring` and `jwks` parse what was read."""

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.tokens import CA_FILE, HS256_KEY, HS256_SECOND_KEY, JWKS_FILE, Algorithm
from pushcluster_gateway.auth.jwks import parse_jwks
from pushcluster_gateway.auth.keyring import MAX_KEY_FILE_BYTES, Keyring, parse_shared_keys

JWKS_TIMEOUT_S: Final = 5.0
"""One request to an issuer, from the DNS lookup to the last byte."""
_CHUNK_BYTES: Final = 16_384


class KeySource(Protocol):
    """A source from which keys are read."""

    @property
    def location(self) -> str:
        """Where the keys come from, in words."""

    async def read(self) -> Keyring:
        """Return the current keys. Raise Unavailable or InvalidInput."""


class SecretSource:
    """A Secret that is mounted as a directory. The kubelet updates the files when the Secret changes."""

    def __init__(self, directory: Path, algorithm: Algorithm) -> None:
        self._directory = directory
        self._algorithm = algorithm

    @property
    def location(self) -> str:
        """The directory, in words."""
        return f"the Secret in {self._directory}"

    async def read(self) -> Keyring:
        """See KeySource."""
        if self._algorithm is Algorithm.HS256:
            return parse_shared_keys(await asyncio.to_thread(self._read_files, (HS256_KEY, HS256_SECOND_KEY)))
        files = await asyncio.to_thread(self._read_files, (JWKS_FILE,))
        if JWKS_FILE not in files:
            return Keyring((), (f"the Secret, or its key {JWKS_FILE}, is not there",))
        try:
            return parse_jwks(files[JWKS_FILE], self._algorithm)
        except InvalidInput as error:
            # It counts as withdrawn: only the author can have changed it, while a proxy can spoil an issuer's answer.
            return Keyring((), (f"{JWKS_FILE}: {error}",))

    def _read_files(self, names: tuple[str, ...]) -> Mapping[str, bytes]:
        found = {name: _read_file(self._directory / name) for name in names}
        return {name: data for name, data in found.items() if data is not None}


class IssuerSource:
    """An issuer that serves a JWK set. Each request is bounded in bytes and time. Redirects are not followed."""

    def __init__(self, url: str, algorithm: Algorithm, ca_file: Path | None) -> None:
        """`ca_file` holds the certificate authorities to trust; None: the public ones."""
        self._url = url
        self._algorithm = algorithm
        self._ca_file = ca_file

    @property
    def location(self) -> str:
        """The address of the issuer."""
        return self._url

    async def read(self) -> Keyring:
        """See KeySource."""
        context = await asyncio.to_thread(self._build_context)
        try:
            data = await self._ask(context)
        except TimeoutError:
            raise Unavailable(f"no complete answer within {JWKS_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(str(error)[:300] or type(error).__name__) from None
        return parse_jwks(data, self._algorithm)

    def _build_context(self) -> ssl.SSLContext:
        """Return a new TLS context for each request, so that a renewed `ca.crt` takes effect."""
        if self._ca_file is None:
            return ssl.create_default_context()
        authorities = _read_file(self._ca_file)
        if authorities is None:
            raise Unavailable(f"the Secret with {CA_FILE} is not there")
        # Not create_default_context: with an empty bundle it would trust the public authorities.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=authorities.decode())
        except (ssl.SSLError, ValueError):
            raise Unavailable(f"{CA_FILE} holds no certificate authorities in PEM form") from None
        return context

    async def _ask(self, context: ssl.SSLContext) -> bytes:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, force_close=True),
                timeout=aiohttp.ClientTimeout(total=JWKS_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a few compressed bytes could expand to gigabytes
            ) as session,
            session.get(
                self._url,
                allow_redirects=False,
                headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
            ) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise Unavailable(f"the answer has status {response.status}, not 200")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Unavailable("the answer is compressed, although the request did not allow it")
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_KEY_FILE_BYTES:
                    raise Unavailable(f"the answer has more than {MAX_KEY_FILE_BYTES} bytes")
            return bytes(data)


def _read_file(path: Path) -> bytes | None:
    """Return a file's bytes, or None when it does not exist. Raise Unavailable when it is too large or unreadable."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise Unavailable(f"{path} has more than {MAX_KEY_FILE_BYTES} bytes")
    return data
