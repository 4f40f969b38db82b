"""Starts the parts of a dispatcher, and stops them in order."""

import asyncio
import logging
import random
import time
import uuid
from typing import Final

from pushcluster_contract.keys import Keys
from pushcluster_contract.limits import ENDPOINTS_UPDATE_S
from pushcluster_contract.topology import build_publish_targets
from pushcluster_dispatcher.api.app import build_server
from pushcluster_dispatcher.api.ingress_publisher import CONFIRM_TIMEOUT_S, IngressPublisher
from pushcluster_dispatcher.api.replies import Replies
from pushcluster_dispatcher.api.routes import ApiServices
from pushcluster_dispatcher.api.user_directory import UserDirectory
from pushcluster_dispatcher.egress.copies import CopyPublisher
from pushcluster_dispatcher.egress.rejected import RejectPublisher
from pushcluster_dispatcher.ingress.consumer import APPEND_CONNECTIONS, IngressConsumer, IngressServices
from pushcluster_dispatcher.ingress.partition import PartitionServices
from pushcluster_dispatcher.log.barrier import Barrier
from pushcluster_dispatcher.log.redis_link import RedisLink
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_dispatcher.readiness import Readiness
from pushcluster_dispatcher.settings import ApiSettings, Settings
from pushcluster_runtime.admin import AdminServer
from pushcluster_runtime.amqp.outcome_publisher import OutcomePublisher
from pushcluster_runtime.amqp.publisher_connection import PublisherConnection
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.redis.client import connect
from pushcluster_runtime.tasks import cancel, first_error

PROGRAM: Final = "dispatcher"

_log = logging.getLogger(__name__)


def new_backoff() -> Backoff:
    """Return the back-off of one supervisor."""
    return Backoff(random.random)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run a dispatcher until `stop`."""
    metrics, keys = Metrics(), Keys(settings.cluster)
    name = f"dispatcher:{settings.pod_name}"
    links = [
        RedisLink(settings.redis_url, name=f"{name}:append-{n}", backoff=new_backoff())
        for n in range(APPEND_CONNECTIONS)
    ]
    barrier_link = RedisLink(settings.redis_url, name=f"{name}:barrier", backoff=new_backoff())
    redis_links = (*links, barrier_link)
    barrier = Barrier(barrier_link, keys, backoff=new_backoff(), on_barrier=metrics.barrier_seconds.observe)
    metrics.durability_reduced.set_function(lambda: barrier.durability_reduced)
    publisher = PublisherConnection(
        settings.amqp_url,
        name=f"dispatcher {settings.pod_name} copies",
        topology=build_publish_targets(),
        backoff=new_backoff(),
    )
    copies = CopyPublisher(publisher, settings.mode, metrics)
    publisher.on_open, publisher.on_closed = copies.opened, copies.closed
    reports = OutcomePublisher(publisher, on_sent=metrics.outcomes_sent.inc, on_dropped=metrics.outcomes_dropped.inc)
    partition_services = PartitionServices(
        copies,
        RejectPublisher(publisher),
        reports,
        metrics,
        lambda: time.time_ns() // 1_000_000,
        ids_window_s=settings.retention.idempotency_window_ms / 1_000,
        consumer_timeout_s=settings.consumer_timeout_s,
    )
    ingress = IngressConsumer(
        IngressServices(settings, keys, links, barrier, publisher, partition_services, new_backoff)
    )
    metrics.partitions_refused.set_function(ingress.count_refused)
    metrics.oldest_unacknowledged.set_function(ingress.oldest_unacknowledged_s)

    replies = Replies(new_id)
    api_publisher = IngressPublisher(
        settings.amqp_url,
        name=f"dispatcher {settings.pod_name} API",
        new_unique=new_id,
        replies=replies,
        backoff=new_backoff(),
    )

    judging = Readiness()

    def readiness() -> tuple[bool, str]:
        ready, reason = judging.judge(
            dispatch=next((each.trouble for each in redis_links if each.trouble), "") or ingress.trouble(),
            refusal=ingress.refusal(),
            api=None if settings.api is None else api_publisher.trouble,
            stopping=stop.is_set(),
        )
        if reason == "ready" and barrier.durability_reduced:
            reason = "ready, but DurabilityReduced: Redis keeps no append-only file"
        return ready, reason

    admin = AdminServer(settings.listen_host, settings.admin_port, readiness, metrics.registry)
    _log.info(
        "the admin server listens", extra={"port": await admin.start(), "pod": settings.pod_name, "mode": settings.mode}
    )
    try:
        async with asyncio.TaskGroup() as group:
            running = [*(each.run() for each in redis_links), barrier.run(), publisher.run()]
            background = [group.create_task(each) for each in running]
            if settings.api is not None:
                group.create_task(_serve_api(settings, settings.api, api_publisher, replies, metrics, stop))
            await ingress.run(stop)
            for task in background:
                task.cancel()
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    finally:
        await admin.close()


async def _serve_api(
    settings: Settings,
    api: ApiSettings,
    api_publisher: IngressPublisher,
    replies: Replies,
    metrics: Metrics,
    stop: asyncio.Event,
) -> None:
    """Serve the API until `stop`, and ENDPOINTS_UPDATE_S longer: until then, load balancers still send producers here.

    Requests that have begun are answered.
    """
    redis = connect(settings.redis_url, name=f"dispatcher:{settings.pod_name}:api")
    services = ApiServices(api_publisher, UserDirectory(redis, Keys(settings.cluster)), replies, settings.mode, new_id)
    publishing = asyncio.create_task(api_publisher.run())
    server = build_server(services, api.keys, metrics, shutdown_timeout_s=CONFIRM_TIMEOUT_S)
    try:
        _log.info("the API server listens", extra={"port": await server.start(settings.listen_host, api.port)})
        await stop.wait()
        await asyncio.sleep(ENDPOINTS_UPDATE_S)
    finally:
        replies.lost()  # answers whoever waits for outcomes now: these are pending
        await server.close()
        await cancel(publishing)
        await redis.aclose()


def new_id() -> str:
    """Return an id that nobody else has."""
    return uuid.uuid4().hex
