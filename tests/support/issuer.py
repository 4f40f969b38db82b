"""An issuer of tokens: key pairs, a certificate authority of its own, and a real HTTPS server for the JWK set."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from pushcluster_contract.tokens import CA_FILE, Algorithm
from pushcluster_gateway.auth.jwks import parse_jwks
from pushcluster_gateway.auth.keyring import Keyring

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What the server does with one request."""
ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True)
class SigningKey:
    """A key pair of an issuer."""

    id: str | None
    algorithm: Algorithm
    private: Any = field(repr=False)

    @classmethod
    def make(cls, id_: str | None, algorithm: Algorithm = Algorithm.RS256, *, bits: int = 2_048) -> "SigningKey":
        if algorithm is Algorithm.ES256:
            return cls(id_, algorithm, ec.generate_private_key(ec.SECP256R1()))
        return cls(id_, algorithm, rsa.generate_private_key(65_537, bits))

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as an issuer publishes it."""
        to_jwk = ECAlgorithm.to_jwk if self.algorithm is Algorithm.ES256 else RSAAlgorithm.to_jwk
        public: dict[str, Any] = to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        named = {} if self.id is None else {"kid": self.id}
        return {**public, **named, "use": "sig", "alg": self.algorithm.value}

    @property
    def public_pem(self) -> bytes:
        public: bytes = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return public

    def token(self, user: str = "alice", *, headers: dict[str, Any] | None = None, **claims: object) -> str:
        named = {} if self.id is None else {"kid": self.id}
        return jwt.encode(
            {"sub": user, **claims}, self.private, algorithm=self.algorithm.value, headers={**named, **(headers or {})}
        )


def jwks(*keys: SigningKey | dict[str, Any]) -> bytes:
    """Return a JWK set."""
    return json.dumps({"keys": [key.jwk if isinstance(key, SigningKey) else key for key in keys]}).encode()


def public(*keys: SigningKey | dict[str, Any], algorithm: Algorithm = Algorithm.RS256) -> Keyring:
    """Return what a gateway makes of that set."""
    return parse_jwks(jwks(*keys), algorithm)


class Authority:
    """A certificate authority that vouches for 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca_file = directory / CA_FILE
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])
        certificate = _certificate(name, name, key.public_key(), key, is_authority=True)
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._name, self._key = name, key

    def server_context(self, host: str = "127.0.0.1") -> ssl.SSLContext:
        """Return TLS for a server that is called `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer of the tests")])
        certificate = _certificate(name, self._name, key.public_key(), self._key, host=host)
        chain, private = self.directory / "server.crt", self.directory / "server.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, private)
        return context


@dataclass
class Issuer:
    """A server whose answer can be changed while it runs."""

    port: int = 0
    scheme: str = "https"
    answer: Answer = field(default=lambda _, writer: send(writer, b""))
    requests: list[bytes] = field(default_factory=list)
    """The head of each request that came."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/.well-known/jwks.json"

    def serve_keys(self, *keys: SigningKey | dict[str, Any]) -> None:
        """Answer as an honest issuer does."""
        self.serve(jwks(*keys))

    def serve(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        """Answer with this body."""
        self.answer = lambda _, writer: send(writer, body, *headers, status=status)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()


async def send(writer: asyncio.StreamWriter, body: bytes, *headers: str, status: str = "200 OK") -> None:
    """Write a whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    await writer.drain()


@asynccontextmanager
async def running_issuer(context: ssl.SSLContext | None, port: int = 0) -> AsyncIterator[Issuer]:
    """Serve on 127.0.0.1 until the end of the block; without TLS when there is no context."""
    issuer = Issuer(scheme="https" if context else "http")
    server = await asyncio.start_server(issuer.handle, "127.0.0.1", port, ssl=context)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: Any, signer: Any, *, is_authority: bool = False, host: str = ""
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - ONE_DAY)
        .not_valid_after(now + ONE_DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if is_authority:
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    else:
        names = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())
