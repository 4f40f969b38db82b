"""The dispatchers: a Deployment, the Service of the HTTP API, and its Secret `<cluster>-api`."""

from typing import Final

from pushcluster_contract import env
from pushcluster_operator.children import common, connections
from pushcluster_operator.children.inputs import Inputs
from pushcluster_operator.children.pod import (
    SERVED_PORT,
    build_program,
    build_program_container,
    build_program_environment,
    from_secret,
    variable,
)
from pushcluster_operator.kube.credentials import API_KEY
from pushcluster_operator.kube.labels import Component
from pushcluster_operator.kube.manifest import Manifest, digest

GRACE_S: Final = 30
"""Enough to finish the batches under way. Messages that are not acknowledged by then go to another dispatcher."""


def build_api_secret(inputs: Inputs) -> Manifest | None:
    """Build the Secret. None when the API is off."""
    if not inputs.cluster.spec.dispatcher.api_enabled:
        return None
    return common.build_secret(inputs, inputs.names.api, Component.DISPATCHER, {API_KEY: inputs.credentials.api_key})


def build_account(inputs: Inputs) -> Manifest:
    """Build the ServiceAccount."""
    return common.build_account(inputs, inputs.names.dispatcher, Component.DISPATCHER)


def build_service(inputs: Inputs) -> Manifest | None:
    """Build the Service of the HTTP API. None when the API is off."""
    if not inputs.cluster.spec.dispatcher.api_enabled:
        return None
    return common.build_service(inputs, inputs.names.dispatcher, Component.DISPATCHER, {"http": (80, "http")})


def build_budget(inputs: Inputs) -> Manifest | None:
    """Build the PodDisruptionBudget. None for a single replica."""
    return common.build_budget(
        inputs, inputs.names.dispatcher, Component.DISPATCHER, inputs.cluster.spec.dispatcher.replicas
    )


def build_deployment(inputs: Inputs) -> Manifest:
    """Build the Deployment."""
    dispatcher = inputs.cluster.spec.dispatcher
    environment = [
        *build_program_environment(inputs),
        variable(env.IDEMPOTENCY_WINDOW_SECONDS, inputs.cluster.spec.delivery.idempotency_window_seconds),
        variable(env.API_PORT, SERVED_PORT),
        variable(env.API_ENABLED, "true" if dispatcher.api_enabled else "false"),
    ]
    if dispatcher.api_enabled:
        environment.append(from_secret(env.API_KEY, inputs.names.api, API_KEY))
    container = build_program_container(
        "dispatcher", dispatcher.image or inputs.images.dispatcher, "http", environment, dispatcher.resources
    )
    api_key = inputs.credentials.api_key if dispatcher.api_enabled else ""
    return build_program(
        inputs,
        Component.DISPATCHER,
        name=inputs.names.dispatcher,
        replicas=dispatcher.replicas,
        container=container,
        grace_s=GRACE_S,
        checksum=digest(connections.build_secret(inputs)["data"], api_key),
    )
