"""The conditions that warn of what `spec.gateway` lets in: nothing is broken, and somebody may be surprised by it."""

from pushcluster_operator.spec.auth import AuthMode
from pushcluster_operator.spec.gateway import Gateway
from pushcluster_operator.status.conditions import Condition


def build_auth_warnings(gateway: Gateway) -> tuple[Condition, ...]:
    """Return them; each says how to mend it."""
    warnings: list[Condition] = []
    if gateway.auth.mode is AuthMode.TRUSTED:
        warnings.append(_build_trusted())
        if not gateway.allowed_origins:
            warnings.append(_build_origins_unchecked())
    elif gateway.auth.algorithm.has_public_keys and not gateway.auth.audiences:
        warnings.append(_build_audiences_unchecked())
    return tuple(warnings)


def _build_trusted() -> Condition:
    return Condition(
        "AuthTrusted",
        "True",
        "NoProof",
        "clients are believed to be whom they say they are (gateway.auth.mode Trusted): anybody who reaches a gateway "
        "can read anybody's messages. Set the mode to JWT outside development",
    )


def _build_origins_unchecked() -> Condition:
    return Condition(
        "OriginsUnchecked",
        "True",
        "AnyOrigin",
        "any web page can read anybody's messages once it is opened in a browser that reaches a gateway, also where "
        "no stranger does (gateway.auth.mode Trusted without gateway.allowedOrigins). Set allowedOrigins to your pages",
    )


def _build_audiences_unchecked() -> Condition:
    return Condition(
        "AudiencesUnchecked",
        "True",
        "AnyAudience",
        "any token of the issuer comes in, also one that was made for another service, and whoever runs that service "
        "can use it here. Set gateway.auth.audiences to what the tokens for this service say in `aud`",
    )
