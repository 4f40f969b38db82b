"""The secret values of one PushCluster. They are generated once, and read back from then on.

What a Secret holds is the truth. A value that somebody wrote there is used and rolled out like a generated one, and a
missing value is generated anew: to rotate a generated Secret, delete it. People also write the API keys and the token
key, so these are kept even if they cannot be used (`held_children.py` and `referenced_secrets.py` report it).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from pushcluster_contract.tokens import HS256_KEY
from pushcluster_operator.kube.manifest import decode_data
from pushcluster_operator.kube.names import Names

Entropy = Callable[[int], bytes]
"""Returns as many random bytes as asked for, such as `os.urandom`."""

SECRET_BYTES: Final = 32
API_KEY: Final = "api-key"

_USABLE: Final = re.compile(r"[!-~]{8,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Every secret value of a PushCluster. None of them shows in a repr."""

    erlang_cookie: str = field(repr=False)
    rabbitmq_password: str = field(repr=False)
    producer_password: str = field(repr=False)
    redis_password: str = field(repr=False)
    jwt_key: str = field(repr=False)
    api_key: str = field(repr=False)

    @classmethod
    def recover(cls, names: Names, secrets: Mapping[str, Mapping[str, Any]], entropy: Entropy) -> Self:
        """Return what the live Secrets (by name) hold, and new values for what is missing in them."""

        def value(secret: str, key: str) -> str:
            held = decode_data(secrets.get(secret, {})).get(key, "")
            return held if _USABLE.fullmatch(held) else generate_secret(entropy)

        def written(secret: str, key: str) -> str:
            return read_as_it_stands(secrets.get(secret, {}), key) or generate_secret(entropy)

        return cls(
            erlang_cookie=value(names.rabbitmq, "erlang-cookie"),
            rabbitmq_password=value(names.rabbitmq, "password"),
            producer_password=value(names.rabbitmq, "producer-password"),
            redis_password=value(names.redis, "password"),
            jwt_key=written(names.jwt, HS256_KEY),
            api_key=written(names.api, API_KEY),
        )

    def blank(self, names: Names, secrets: Collection[str]) -> Self:
        """Return the same values, except those that the named Secrets hold or pass on: they become empty."""
        fields = {
            names.rabbitmq: ("erlang_cookie", "rabbitmq_password", "producer_password"),
            names.redis: ("redis_password",),
            names.jwt: ("jwt_key",),
            names.api: ("api_key",),
            # RabbitMQ and Redis must not take a password that gateways and dispatchers cannot read.
            names.connections: ("rabbitmq_password", "redis_password"),
        }
        return replace(self, **dict.fromkeys((each for name in secrets for each in fields.get(name, ())), ""))


def read_as_it_stands(secret: Mapping[str, Any], key: str) -> str:
    """Return a value unchanged, with its line ends. Return "" if it is absent or blank.

    Bytes that are not UTF-8 become surrogates.
    """
    text = base64.b64decode((secret.get("data") or {}).get(key) or "").decode(errors="surrogateescape")
    return text if text.strip() else ""


def generate_secret(entropy: Entropy) -> str:
    """Return 43 characters of `A-Za-z0-9-_` that carry 256 bits: safe in URLs, configuration files and shells."""
    return base64.urlsafe_b64encode(entropy(SECRET_BYTES)).decode().rstrip("=")


def hash_password(password: str, user: str) -> str:
    """Return RabbitMQ's salted SHA-256 form of a password.

    base64(salt || sha256(salt || password)), salt of 4 bytes; source: rabbitmq.com/docs/passwords. The salt is
    computed from user and password, so that the same password always gives the same text and nothing looks changed.
    """
    salt = hmac.digest(password.encode(), user.encode(), "sha256")[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
