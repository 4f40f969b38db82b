"""`spec.gateway.auth`: how a gateway finds out who a client is."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import JWKS_REFRESH_S, Algorithm, split_jwks_url
from pushcluster_operator.errors import InvalidSpec
from pushcluster_operator.spec.reader import Reader

_OBJECT_NAME: Final = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"
_DATA_KEY: Final = r"[-._a-zA-Z0-9]+"
_URL: Final = r"https?://([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?(/[!-~]*)?"
_PRINTABLE: Final = r"[!-~]+"
_THIS_MACHINE: Final = re.compile(r"http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/|$)")


class AuthMode(StrEnum):
    """`mode`."""

    JWT = "JWT"
    TRUSTED = "Trusted"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One value in a Secret of the same namespace."""

    name: str
    key: str

    @classmethod
    def read(cls, reader: Reader | None) -> Self | None:
        """Return `{name, key}`, or None if it is absent. Raise InvalidSpec."""
        if reader is None:
            return None
        reference = cls(
            name=_read_secret_name(reader),
            key=reader.text("key", "", pattern=_DATA_KEY, maximum=253, rule="a key of that Secret"),
        )
        reader.finish()
        return reference


@dataclass(frozen=True, slots=True)
class Jwks:
    """`jwks`: where the issuer's public keys are."""

    url: str | None
    secret: SecretKey | None
    ca_secret: SecretKey | None
    allow_http: bool
    refresh_seconds: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Return `jwks`. Raise InvalidSpec."""
        jwks = cls(
            url=reader.optional_text("url", pattern=_URL, maximum=2_048, rule="an address that begins with https://"),
            secret=SecretKey.read(reader.optional_child("secretRef")),
            ca_secret=SecretKey.read(reader.optional_child("caSecretRef")),
            allow_http=reader.boolean("allowHttp", default=False),
            refresh_seconds=reader.integer("refreshSeconds", JWKS_REFRESH_S, minimum=30, maximum=86_400),
        )
        reader.finish()
        if jwks.url is not None and jwks.secret is not None:
            raise InvalidSpec(f"{reader.path} takes its keys from url or from secretRef, not from both")
        if jwks.url is not None:
            try:
                split_jwks_url(jwks.url)
            except InvalidInput as error:
                raise InvalidSpec(f"{reader.path}.url {error}") from None
        is_https = jwks.url is not None and jwks.url.startswith("https://")
        if jwks.url is not None and not (is_https or jwks.allow_http or _THIS_MACHINE.match(jwks.url)):
            raise InvalidSpec(
                f"{reader.path}.url must begin with https://: whoever can change the keys on their way can sign "
                "tokens. Set allowHttp: true to accept http:// anyway"
            )
        if jwks.ca_secret is not None and not is_https:
            raise InvalidSpec(f"{reader.path}.caSecretRef applies only to a url with https://")
        return jwks

    @property
    def is_given(self) -> bool:
        """Whether the spec names a source of public keys."""
        return self.url is not None or self.secret is not None


@dataclass(frozen=True, slots=True)
class Auth:
    """`spec.gateway.auth`."""

    mode: AuthMode
    algorithm: Algorithm
    secret_name: str | None
    """The author's own Secret, with the key for HS256."""
    jwks: Jwks
    issuer: str | None
    audiences: tuple[str, ...]
    user_claim: str
    require_expiry: bool

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Return `spec.gateway.auth`. Raise InvalidSpec."""
        reference = reader.optional_child("secretRef")
        name = None
        if reference is not None:
            name = _read_secret_name(reference)
            reference.finish()
        auth = cls(
            mode=reader.choice("mode", AuthMode.JWT, AuthMode),
            algorithm=reader.choice("algorithm", Algorithm.HS256, Algorithm),
            secret_name=name,
            jwks=Jwks.read(reader.child("jwks")),
            issuer=reader.optional_text("issuer", pattern=_PRINTABLE, maximum=512, rule="what a token says in iss"),
            audiences=reader.texts(
                "audiences", pattern=_PRINTABLE, maximum=255, most=16, rule="what a token may say in aud"
            ),
            user_claim=reader.text(
                "userClaim", "sub", pattern=r"[A-Za-z0-9_.:/-]+", maximum=128, rule="the name of a claim"
            ),
            require_expiry=reader.boolean("requireExpiry", default=True),
        )
        reader.finish()
        auth._check(reader.path)
        return auth

    def _check(self, path: str) -> None:
        if self.mode is AuthMode.TRUSTED:
            if self.secret_name is not None or self.jwks.is_given or self.issuer is not None or self.audiences:
                raise InvalidSpec(
                    f"{path}.mode Trusted checks no token: remove secretRef, jwks, issuer and audiences, "
                    "or set mode to JWT"
                )
        elif self.algorithm.has_public_keys:
            if self.secret_name is not None:
                raise InvalidSpec(
                    f"{path}.secretRef is the shared key of HS256; {self.algorithm} takes public keys from jwks"
                )
            if not self.jwks.is_given:
                raise InvalidSpec(
                    f"{path}.algorithm {self.algorithm} needs the issuer's public keys: set jwks.url or jwks.secretRef"
                )
        elif self.jwks.is_given:
            raise InvalidSpec(
                f"{path}.jwks holds public keys, which HS256 does not have: set algorithm to RS256 or ES256, "
                "or remove jwks"
            )

    @property
    def generates_key(self) -> bool:
        """Whether the operator generates the key that signs tokens."""
        return self.mode is AuthMode.JWT and not self.algorithm.has_public_keys and self.secret_name is None

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The author's own Secrets, each once."""
        references = (self.jwks.secret, self.jwks.ca_secret)
        names = (self.secret_name, *(reference.name for reference in references if reference is not None))
        return tuple(dict.fromkeys(name for name in names if name is not None))


def _read_secret_name(reader: Reader) -> str:
    return reader.text("name", "", pattern=_OBJECT_NAME, maximum=253, rule="a Secret's name")
