"""The settings of authentication, read once from the environment."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pushcluster_contract import env
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.tokens import JWKS_REFRESH_S, KEYS_DIRECTORY, Algorithm, split_jwks_url
from pushcluster_runtime.settings import EnvironmentVariables

MIN_REFRESH_S: Final = 1
MAX_REFRESH_S: Final = 86_400


class AuthMode(StrEnum):
    """`spec.gateway.auth.mode`."""

    JWT = "JWT"
    TRUSTED = "Trusted"
    """The header `login` names the user, without any check. Use it only for development."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """`spec.gateway.auth`, as a gateway gets it. The keys themselves are in files, or the issuer serves them."""

    mode: AuthMode
    algorithm: Algorithm
    keys_directory: Path
    jwks_url: str
    """Empty: the keys are in `keys_directory`."""
    jwks_refresh_s: int
    jwks_own_ca: bool
    """Whether to trust only `ca.crt` in `keys_directory` for the issuer, instead of the public authorities."""
    issuer: str
    """Empty: any."""
    audiences: frozenset[str]
    """Empty: any."""
    user_claim: str
    require_expiry: bool

    @classmethod
    def parse(cls, environment: EnvironmentVariables) -> Self:
        """Return the settings in the variables of `env`. Raise InvalidInput, which names the variable."""
        algorithm = environment.choice(env.JWT_ALGORITHM, Algorithm, Algorithm.HS256)
        return cls(
            mode=environment.choice(env.AUTH_MODE, AuthMode, AuthMode.JWT),
            algorithm=algorithm,
            keys_directory=Path(environment.text(env.AUTH_KEYS_DIRECTORY, KEYS_DIRECTORY)),
            jwks_url=_parse_jwks_url(environment) if algorithm.has_public_keys else "",
            jwks_refresh_s=environment.integer(
                env.JWKS_REFRESH_SECONDS, JWKS_REFRESH_S, low=MIN_REFRESH_S, high=MAX_REFRESH_S
            ),
            jwks_own_ca=environment.boolean(env.JWKS_OWN_CA, default=False),
            issuer=environment.variables.get(env.JWT_ISSUER, ""),
            audiences=frozenset(environment.variables.get(env.JWT_AUDIENCES, "").split()),
            user_claim=environment.text(env.JWT_USER_CLAIM, "sub"),
            require_expiry=environment.boolean(env.JWT_REQUIRE_EXPIRY, default=True),
        )


def _parse_jwks_url(environment: EnvironmentVariables) -> str:
    url = environment.variables.get(env.JWKS_URL, "").strip()
    if not url:
        return ""
    try:
        parts = split_jwks_url(url)
    except InvalidInput as error:
        raise InvalidInput(f"{env.JWKS_URL} {error}") from None
    allowed = environment.boolean(env.JWKS_ALLOW_HTTP, default=False)
    if parts.scheme == "https" or allowed or _is_this_machine(parts.hostname or ""):
        return url
    raise InvalidInput(
        f"{env.JWKS_URL} must be an https:// address, because whoever changes the keys on their way can sign tokens; "
        f"http:// is allowed only for this machine, unless {env.JWKS_ALLOW_HTTP} is true"
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
