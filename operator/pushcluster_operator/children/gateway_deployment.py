"""Deployment `<cluster>-gateway`: the pods that hold the clients' WebSocket connections."""

from typing import Final

from pushcluster_contract import env
from pushcluster_operator.children import connections_secret
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    SERVED_PORT,
    build_program_container,
    build_program_environment,
    from_secret,
    variable,
)
from pushcluster_operator.children.program import build_program
from pushcluster_operator.credentials import HS256_KEY
from pushcluster_operator.labels import Component
from pushcluster_operator.manifest import Manifest, digest
from pushcluster_operator.spec_gateway import AuthMode

GRACE_MARGIN_S: Final = 15
"""After the drain: closing what is left, the registry and the connections to RabbitMQ and Redis."""


def build(inputs: Inputs) -> Manifest:
    """Build the Deployment."""
    gateway = inputs.cluster.spec.gateway
    environment = [
        *build_program_environment(inputs),
        variable(env.WS_PORT, SERVED_PORT),
        variable(env.MAX_CONNECTIONS, gateway.max_connections),
        variable(env.MAX_SESSIONS_PER_USER, gateway.max_sessions_per_user),
        variable(env.HANDSHAKES_PER_SECOND, gateway.handshakes_per_second),
        variable(env.DRAIN_SECONDS, gateway.drain_seconds),
        variable(env.ALLOWED_ORIGINS, " ".join(gateway.allowed_origins)),
        variable(env.AUTH_MODE, gateway.auth.mode.value),
        variable(env.JWT_USER_CLAIM, gateway.auth.user_claim),
    ]
    if gateway.auth.mode is AuthMode.JWT:
        secret = gateway.auth.secret_name or inputs.names.jwt
        environment.append(from_secret(env.JWT_KEY, secret, HS256_KEY))
    container = build_program_container(
        "gateway", gateway.image or inputs.images.gateway, "ws", environment, gateway.resources
    )
    return build_program(
        inputs,
        Component.GATEWAY,
        name=inputs.names.gateway,
        replicas=gateway.replicas,
        container=container,
        grace_s=gateway.drain_seconds + GRACE_MARGIN_S,
        checksum=digest(connections_secret.build(inputs)["data"], _jwt_version(inputs)),
    )


def _jwt_version(inputs: Inputs) -> str:
    auth = inputs.cluster.spec.gateway.auth
    if auth.mode is not AuthMode.JWT:
        return ""
    if auth.secret_name is not None:
        return inputs.credentials.referenced_jwt_digest
    return digest(inputs.credentials.jwt_key)
