"""Puts the dispatcher together and takes it down in order."""

import asyncio
import logging
import random
import uuid
from typing import Final

from pushcluster_contract.keys import Keys
from pushcluster_dispatcher.amqp import Ingress, Services
from pushcluster_dispatcher.api import Api
from pushcluster_dispatcher.barrier import Barrier
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.publisher import CONFIRM_TIMEOUT_S, IngressPublisher
from pushcluster_dispatcher.redis_link import RedisLink
from pushcluster_dispatcher.settings import Settings
from pushcluster_runtime.admin import AdminServer, serve
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.tasks import cancel, first_error

PROGRAM: Final = "dispatcher"

_log = logging.getLogger(__name__)


def new_backoff() -> Backoff:
    """Return the back-off of one supervisor."""
    return Backoff(random.random)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run a dispatcher until `stop`. Raises InvalidInput when Redis is too old."""
    metrics, keys = Metrics(), Keys(settings.cluster)
    name = f"dispatcher:{settings.pod_name}"
    link = RedisLink(settings.redis_url, name=f"{name}:append", backoff=new_backoff())
    barrier_link = RedisLink(settings.redis_url, name=f"{name}:barrier", backoff=new_backoff())
    barrier = Barrier(barrier_link, keys, backoff=new_backoff(), on_barrier=metrics.barrier_seconds.observe)
    metrics.durability_reduced.set_function(lambda: barrier.durability_reduced)
    ingress = Ingress(Services(settings, keys, link, barrier, metrics, new_backoff))

    publisher = IngressPublisher(settings.amqp_url, name=f"dispatcher {settings.pod_name} API", backoff=new_backoff())

    def readiness() -> tuple[bool, str]:
        trouble = link.trouble or barrier_link.trouble or ingress.trouble()
        if settings.api is not None:
            trouble = trouble or publisher.trouble
        if trouble or stop.is_set():
            return False, trouble or "stopping"
        reduced = barrier.durability_reduced
        return True, "ready, but DurabilityReduced: Redis keeps no append-only file" if reduced else "ready"

    admin = AdminServer(settings.listen_host, settings.admin_port, readiness, metrics.registry)
    _log.info("admin server", extra={"port": await admin.start(), "pod": settings.pod_name, "mode": settings.mode})
    try:
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(each.run()) for each in (link, barrier_link, barrier)]
            if settings.api is not None:
                api = Api(publisher, settings.api.key, metrics=metrics, new_message_id=lambda: uuid.uuid4().hex)
                group.create_task(_serve_api(api, publisher, settings.listen_host, settings.api.port, stop))
            await ingress.run(stop)
            for task in background:
                task.cancel()
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    finally:
        await admin.close()


async def _serve_api(api: Api, publisher: IngressPublisher, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve the API until `stop`; requests that have begun are answered."""
    publishing = asyncio.create_task(publisher.run())
    try:
        runner, port = await serve(api.build_app(), host, port, shutdown_timeout_s=CONFIRM_TIMEOUT_S)
        try:
            _log.info("API server", extra={"port": port})
            await stop.wait()
        finally:
            await runner.cleanup()
    finally:
        await cancel(publishing)
