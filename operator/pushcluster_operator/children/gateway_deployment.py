"""Deployment `<cluster>-gateway`: the pods that hold the clients' WebSocket connections."""

from typing import Final

from pushcluster_contract import env
from pushcluster_operator.children import auth_files, connections_secret, rabbitmq_config
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    SERVED_PORT,
    build_program_container,
    build_program_environment,
    variable,
)
from pushcluster_operator.children.program import build_program
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest, digest
from pushcluster_operator.spec.auth import Auth, AuthMode

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
        variable(
            env.SUBSCRIPTION_QUEUES, rabbitmq_config.count_subscription_queues(inputs.cluster.spec.rabbitmq.memory)
        ),
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
        # Keys of tokens are read again while a gateway runs: a new one rolls no pod.
        checksum=digest(connections_secret.build(inputs)["data"]),
    )
    volume = auth_files.build_volume(inputs)
    if volume is not None:
        container["volumeMounts"] = [auth_files.MOUNT]
        deployment["spec"]["template"]["spec"]["volumes"] = [volume]
    return deployment


def build_auth_environment(auth: Auth) -> list[Manifest]:
    """Return how a gateway finds out who a client is; what does not matter is left out."""
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
