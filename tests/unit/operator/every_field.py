"""Specs that together set every field to a value of its own, which is neither a default nor any other field's value.

One spec cannot hold them all: the keys of tokens come from one place.
"""

from typing import Any, Final

ISSUER: Final[dict[str, Any]] = {
    "algorithm": "ES256",
    "jwks": {
        "url": "http://issuer.example/keys?a=$b",
        "allowHttp": True,
        "refreshSeconds": 432,
    },
    "issuer": "https://issuer.example/$(HOME)",
    "audiences": ["push", "web"],
    "userClaim": "email",
    "requireExpiry": False,
}
AUTHS: Final[dict[str, dict[str, Any]]] = {
    "issuer": ISSUER,
    "issuer-with-ca": {
        "algorithm": "RS256",
        "jwks": {"url": "https://issuer.example/keys", "caSecretRef": {"name": "authorities", "key": "bundle.pem"}},
    },
    "public-keys": {"algorithm": "RS256", "jwks": {"secretRef": {"name": "public", "key": "set.json"}}},
    "own-key": {"secretRef": {"name": "mine"}},
    "trusted": {"mode": "Trusted"},
}
"""The ways to say who a client is."""


def build_spec(auth: dict[str, Any]) -> dict[str, Any]:
    """Return a spec in which every field has a value of its own, with this `gateway.auth`."""
    return {
        "routing": {"mode": "Gateway"},
        "gateway": {
            "replicas": 7,
            "maxConnections": 12_345,
            "maxSessionsPerUser": 19,
            "handshakesPerSecond": 321,
            "drain": {"seconds": 77},
            "auth": auth,
            "allowedOrigins": ["https://a.example", "https://b.example:8443"],
            "image": "own/gateway:2",
            "resources": {"requests": {"cpu": "110m", "memory": "120Mi"}, "limits": {"cpu": "130m", "memory": "140Mi"}},
        },
        "dispatcher": {
            "replicas": 5,
            "api": {"enabled": False},
            "image": "own/dispatcher:2",
            "resources": {"requests": {"cpu": "210m", "memory": "220Mi"}, "limits": {"cpu": "230m", "memory": "240Mi"}},
        },
        "rabbitmq": {"managed": {"replicas": 1, "storage": "11Gi", "memory": "3Gi", "image": "own/rabbitmq:2"}},
        "redis": {"managed": {"storage": "13Gi", "maxMemory": "300Mi", "image": "own/redis:2"}},
        "delivery": {
            "offline": {"ttlSeconds": 7_200, "maxPerDestination": 456},
            "resume": {"windowSeconds": 98},
            "idempotency": {"windowSeconds": 765},
        },
        "deletionPolicy": "Delete",
    }


SPECS: Final = {name: build_spec(auth) for name, auth in AUTHS.items()}
