"""The gateways: a Deployment, the Service where clients connect, and what they check tokens with."""

from typing import Final

from pushcluster_contract import env
from pushcluster_contract.tokens import CA_FILE, HS256_KEY, HS256_SECOND_KEY, JWKS_FILE, KEYS_DIRECTORY
from pushcluster_operator.children import common, connections, rabbitmq
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    SERVED_PORT,
    build_program,
    build_program_container,
    build_program_environment,
    variable,
)
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec.auth import Auth, AuthMode, SecretKey
from pushcluster_operator.spec.gateway_memory import count_outboxes_bytes

GRACE_MARGIN_S: Final = 15
"""Time after the drain to close remaining clients, to leave the registry, and to close RabbitMQ and Redis."""
_AUTH_VOLUME: Final = "auth"
_OWNER_AND_GROUP: Final = 0o440

AUTH_MOUNT: Final[Manifest] = {"name": _AUTH_VOLUME, "mountPath": KEYS_DIRECTORY, "readOnly": True}


def build_jwt_secret(inputs: Inputs) -> Manifest | None:
    """Build the Secret. None if the author brings a key, or if no key is needed."""
    if not inputs.cluster.spec.gateway.auth.generates_key:
        return None
    return common.build_secret(inputs, inputs.names.jwt, Component.GATEWAY, {HS256_KEY: inputs.credentials.jwt_key})


def build_account(inputs: Inputs) -> Manifest:
    """Build the ServiceAccount."""
    return common.build_account(inputs, inputs.names.gateway, Component.GATEWAY)


def build_service(inputs: Inputs) -> Manifest:
    """Build the Service where WebSocket clients connect."""
    return common.build_service(inputs, inputs.names.gateway, Component.GATEWAY, {"ws": (80, "ws")})


def build_budget(inputs: Inputs) -> Manifest | None:
    """Build the PodDisruptionBudget. None for a single replica."""
    return common.build_budget(inputs, inputs.names.gateway, Component.GATEWAY, inputs.cluster.spec.gateway.replicas)


def build_deployment(inputs: Inputs) -> Manifest:
    """Build the Deployment."""
    gateway = inputs.cluster.spec.gateway
    environment = [
        *build_program_environment(inputs),
        variable(env.WS_PORT, SERVED_PORT),
        variable(env.MAX_CONNECTIONS, gateway.max_connections),
        variable(env.MAX_SESSIONS_PER_USER, gateway.max_sessions_per_user),
        variable(env.HANDSHAKES_PER_SECOND, gateway.handshakes_per_second),
        variable(env.OUTBOXES_BYTES, count_outboxes_bytes(gateway)),
        variable(env.SUBSCRIPTION_QUEUES, rabbitmq.count_subscription_queues(inputs.cluster.spec.rabbitmq.memory)),
        variable(env.DRAIN_SECONDS, gateway.drain_seconds),
        variable(env.ALLOWED_ORIGINS, " ".join(gateway.allowed_origins)),
        *build_auth_environment(gateway.auth),
    ]
    container = build_program_container(
        "gateway", gateway.image or inputs.images.gateway, "ws", environment, gateway.resources
    )
    deployment = build_program(
        inputs,
        Component.GATEWAY,
        name=inputs.names.gateway,
        replicas=gateway.replicas,
        container=container,
        grace_s=gateway.drain_seconds + GRACE_MARGIN_S,
        # Token keys are not part of it: a running gateway reads them again, so a new key restarts no pod.
        checksum=digest(connections.build_secret(inputs)["data"]),
    )
    volume = build_auth_volume(inputs)
    if volume is not None:
        container["volumeMounts"] = [AUTH_MOUNT]
        deployment["spec"]["template"]["spec"]["volumes"] = [volume]
    return deployment


def build_auth_environment(auth: Auth) -> list[Manifest]:
    """Return the variables for authentication. Those that have no effect are left out."""
    variables: dict[str, object] = {env.AUTH_MODE: auth.mode.value}
    if auth.mode is AuthMode.JWT:
        variables |= {
            env.JWT_ALGORITHM: auth.algorithm.value,
            env.JWT_USER_CLAIM: auth.user_claim,
            env.JWT_ISSUER: auth.issuer or "",
            env.JWT_AUDIENCES: " ".join(auth.audiences),
            env.JWT_REQUIRE_EXPIRY: str(auth.require_expiry).lower(),
        }
        if auth.jwks.url is not None:
            variables |= {
                env.JWKS_URL: auth.jwks.url,
                env.JWKS_REFRESH_SECONDS: auth.jwks.refresh_seconds,
                env.JWKS_ALLOW_HTTP: str(auth.jwks.allow_http).lower(),
                env.JWKS_OWN_CA: str(auth.jwks.ca_secret is not None).lower(),
            }
    return [variable(name, value) for name, value in variables.items()]


def build_auth_volume(inputs: Inputs) -> Manifest | None:
    """Return the volume of keys. None if no token is checked, or if all keys come over the network."""
    auth = inputs.cluster.spec.gateway.auth
    if auth.mode is not AuthMode.JWT:
        return None
    sources: list[Manifest] = []
    if not auth.algorithm.has_public_keys:
        names = {HS256_KEY: HS256_KEY, HS256_SECOND_KEY: HS256_SECOND_KEY}
        sources.append(_project(auth.secret_name or inputs.names.jwt, names))
    for reference, file in ((auth.jwks.secret, JWKS_FILE), (auth.jwks.ca_secret, CA_FILE)):
        if isinstance(reference, SecretKey):
            sources.append(_project(reference.name, {reference.key: file}))
    if not sources:
        return None
    return {"name": _AUTH_VOLUME, "projected": {"defaultMode": _OWNER_AND_GROUP, "sources": sources}}


def _project(secret: str, files: dict[str, str]) -> Manifest:
    items = [{"key": key, "path": path} for key, path in files.items()]
    return {"secret": {"name": secret, "items": items, "optional": True}}
