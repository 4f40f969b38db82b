"""Fixtures with real Redis and real RabbitMQ, for every folder; what is missing fails the test with a sentence."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from local_run.stores import USER
from tests.support.amqp_admin import AmqpAdmin
from tests.support.containers import Services, running_services
from tests.support.dispatchers import (
    Logs,
    Producer,
    RunningDispatcher,
    producer,
    reading_logs,
    running_dispatcher,
)
from tests.support.gateways import Backend, RunningGateway, backend, running_gateway
from tests.support.waiting import eventually


@dataclass(frozen=True, slots=True)
class Plane:
    """What one test has to itself: a cluster's name (so its own Redis keys) and a vhost."""

    cluster: str
    vhost: str
    amqp_url: str = field(repr=False)
    redis_url: str = field(repr=False)


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Both containers, started once for all tests; a test that stops one must leave it running again."""
    with running_services(password=secrets.token_hex(16)) as running:
        yield running


@pytest.fixture
def redis_url(services: Services) -> str:
    return services.redis_url


@pytest.fixture
def amqp_admin(services: Services) -> AmqpAdmin:
    return AmqpAdmin(services.management_url, USER, services.password)


@pytest.fixture
async def plane(services: Services) -> AsyncIterator[Plane]:
    """A plane for one test."""
    async with fresh_plane(services) as made:
        yield made


@asynccontextmanager
async def fresh_plane(services: Services) -> AsyncIterator[Plane]:
    """Make a fresh vhost, deleted afterwards, and a cluster name that no other test has."""
    admin = AmqpAdmin(services.management_url, USER, services.password)
    cluster = f"t{secrets.token_hex(8)}.demo"
    await admin.create_vhost(cluster)
    yield Plane(cluster, cluster, services.amqp_url(cluster), services.redis_url)
    await admin.delete_vhost(cluster)


@pytest.fixture
async def dispatcher(plane: Plane) -> AsyncIterator[RunningDispatcher]:
    """A dispatcher that is ready."""
    async with running_dispatcher(plane) as running:
        yield running


@pytest.fixture
async def producing(plane: Plane) -> AsyncIterator[Producer]:
    """A back end that is connected."""
    async with producer(plane) as connected:
        yield connected


@pytest.fixture
async def logs(plane: Plane) -> AsyncIterator[Logs]:
    """The users' logs."""
    async with reading_logs(plane) as reader:
        yield reader


@pytest.fixture
async def back(plane: Plane) -> AsyncIterator[Backend]:
    """A dispatcher in miniature."""
    async with backend(plane) as running:
        yield running


@pytest.fixture
async def gateway(plane: Plane, back: Backend) -> AsyncIterator[RunningGateway]:
    """A gateway that is ready; the topology is there."""
    async with running_gateway(plane) as running:
        await eventually(running.is_ready)
        yield running
