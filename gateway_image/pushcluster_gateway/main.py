"""Wiring: builds the running program from its settings, and stops it in order."""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from pushcluster_contract.errors import Unavailable
from pushcluster_contract.ids import INCARNATION_ENTROPY_BYTES, Incarnation
from pushcluster_contract.keys import Keys
from pushcluster_contract.version import VERSION
from pushcluster_gateway.auth.authenticator import Authenticator, JwtAuthenticator, TrustedAuthenticator
from pushcluster_gateway.auth.claims import ClaimRules
from pushcluster_gateway.auth.key_refresher import build_key_refresher
from pushcluster_gateway.broker.link import BrokerLink
from pushcluster_gateway.broker.queue_quota import QueueQuota
from pushcluster_gateway.drain import drain
from pushcluster_gateway.environment import Environment
from pushcluster_gateway.gateway import Gateway
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.metrics import GatewayCollector, Gauges, Metrics
from pushcluster_gateway.readiness import Readiness
from pushcluster_gateway.registry.cursor_flusher import CursorFlusher
from pushcluster_gateway.registry.lease_keeper import LeaseKeeper
from pushcluster_gateway.registry.store import SessionRegistry
from pushcluster_gateway.session.client import Client
from pushcluster_gateway.settings import Settings
from pushcluster_gateway.transport.admission import Admission
from pushcluster_gateway.transport.connection import WebSocketConnection
from pushcluster_gateway.transport.handshake import HandshakeResult
from pushcluster_gateway.transport.server import WebSocketServer
from pushcluster_runtime.admin import AdminServer
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.process import run
from pushcluster_runtime.redis.client import ScriptRunner, connect

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListeningPorts:
    """The ports of a running gateway, and its incarnation."""

    websocket: int
    admin: int
    incarnation: Incarnation


def main() -> int:
    """Run the program and return its exit code."""
    return run("gateway", Settings.parse, serve)


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    limits: Limits | None = None,
    on_started: Callable[[ListeningPorts], None] = lambda _: None,
) -> None:
    """Run until `stop` is set, then drain and return. Call `on_started` with the ports once the gateway listens."""
    limits = limits or Limits(max_all_outboxes_bytes=settings.outboxes_bytes)
    program = Program(settings, limits, _process_environment())
    await program.run(stop, on_started)


def _process_environment() -> Environment:
    # The random numbers only spread load. Nothing secret depends on them.
    return Environment(asyncio.get_running_loop().time, time.time, os.urandom, random.random)


class Program:
    """One gateway process."""

    def __init__(self, settings: Settings, limits: Limits, environment: Environment) -> None:
        self._settings = settings
        self._limits = limits
        self._environment = environment
        self._redis = connect(settings.redis_url, name=f"gateway-{settings.pod_name}")
        self._incarnation = Incarnation.new(settings.pod_uid, environment.entropy(INCARNATION_ENTROPY_BYTES))
        metrics = Metrics()
        self._keys = build_key_refresher(settings.auth, metrics, environment)
        self._gateway = self._build_gateway(metrics)
        self._server = WebSocketServer(
            limits=limits,
            admission=Admission(
                max_connections=settings.max_connections,
                handshakes_per_s=settings.handshakes_per_second,
                now=environment.clock(),
                random=environment.random,
            ),
            allowed_origins=settings.allowed_origins,
            metrics=metrics,
            clock=environment.clock,
            handler_factory=self._open_client,
        )
        self._readiness = Readiness()
        self._admin = self._build_admin(metrics)

    async def run(self, stop: asyncio.Event, on_started: Callable[[ListeningPorts], None]) -> None:
        """Listen, run all loops until `stop` is set, then drain."""
        try:
            await self._run_loops(stop, on_started)
            await self._gateway.leave_registry()
        except ExceptionGroup as group:
            # The first failure cancelled the other loops, and it alone decides how the process ends.
            raise group.exceptions[0] from group
        finally:
            await self._server.close()
            await self._gateway.wait_for_tasks(within_s=0)
            await self._gateway.lease_keeper.close()
            await self._gateway.registry.close()
            await self._admin.close()
            await self._redis.aclose()

    async def _run_loops(self, stop: asyncio.Event, on_started: Callable[[ListeningPorts], None]) -> None:
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(work) for work in self._loops()]
            admin_port = await self._admin.start()
            ws_port = await self._server.start(self._settings.listen_host, self._settings.ws_port)
            _log.info("listening", extra={"port": ws_port, "incarnation": str(self._incarnation)})
            on_started(ListeningPorts(ws_port, admin_port, self._incarnation))
            await stop.wait()
            await self._drain()
            for loop in loops:
                loop.cancel()

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        gateway = self._gateway
        return [
            *([self._keys.run()] if self._keys is not None else []),
            self._begin(),
            gateway.broker.run(),
            gateway.queues.run(),
            gateway.lease_keeper.run_renewals(),
            gateway.lease_keeper.run_walk(),
            gateway.cursors.run(),
        ]

    async def _drain(self) -> None:
        await drain(
            self._server,
            limits=self._limits,
            max_seconds=self._settings.drain_seconds,
            random=self._environment.random,
        )
        # The connection to the broker stays until every session has closed its queues.
        await self._gateway.wait_for_tasks(within_s=self._limits.close_timeout_s)

    async def _begin(self) -> None:
        """Take the lease, and remove the sessions that earlier processes of this pod left."""
        registry, backoff = self._gateway.registry, Backoff(self._environment.random)
        while True:
            try:
                await self._gateway.lease_keeper.ensure_lease()
                removed = await registry.remove_siblings()
            except Unavailable as error:
                _log.warning("Redis is not available", extra={"cause": str(error)})
                await asyncio.sleep(backoff.next_delay_s())
            else:
                _log.info("lease taken", extra={"removed_sessions": removed})
                return

    def _open_client(self, connection: WebSocketConnection, handshake: HandshakeResult) -> Client:
        return Client(self._gateway, connection, handshake.subprotocol, handshake.token)

    def _build_gateway(self, metrics: Metrics) -> Gateway:
        settings, environment = self._settings, self._environment
        gateway = Gateway(
            mode=settings.routing_mode,
            pod_name=settings.pod_name,
            server_name=f"PushCluster/{VERSION}",
            limits=self._limits,
            metrics=metrics,
            authenticator=self._build_authenticator(),
            environment=environment,
        )
        kept_delivered_s = max(settings.resume_window_seconds, self._limits.min_kept_delivered_s)
        registry = SessionRegistry(
            self._redis,
            ScriptRunner(self._redis),
            Keys(settings.cluster),
            self._incarnation,
            kept_delivered_ms=round(kept_delivered_s * 1_000),
            max_sessions_per_user=settings.max_sessions_per_user,
            lost_gateway_ms=round(self._limits.lost_gateway_s * 1_000),
        )
        broker = BrokerLink(
            url=settings.amqp_url,
            name=f"gateway {settings.pod_name}",
            incarnation=self._incarnation,
            on_message=gateway.on_gateway_message,
            on_connected=gateway.on_broker_connected,
            environment=environment,
            metrics=metrics,
        )
        lease_keeper = LeaseKeeper(
            registry=registry,
            hub=gateway.hub,
            refresh=gateway.refresh,
            metrics=metrics,
            environment=environment,
            walk_round_s=self._limits.walk_round_s,
            broker_away_s=lambda: broker.away_s,
        )
        quota = QueueQuota(
            self._settings.subscription_queues, lambda: lease_keeper.gateways, max_per_session=self._limits.max_queues
        )
        cursors = CursorFlusher(registry, metrics)
        gateway.attach(registry=registry, broker=broker, lease_keeper=lease_keeper, cursors=cursors, quota=quota)
        return gateway

    def _build_authenticator(self) -> Authenticator:
        keys, auth = self._keys, self._settings.auth
        if keys is None:
            return TrustedAuthenticator()
        rules = ClaimRules(auth.user_claim, auth.issuer, auth.audiences, auth.require_expiry)
        return JwtAuthenticator(auth.algorithm, rules, keys, self._environment.wall_clock)

    def _build_admin(self, metrics: Metrics) -> AdminServer:
        hub, queues, server, keys = self._gateway.hub, self._gateway.queues, self._server, self._keys
        collectors = CollectorRegistry()
        gauges = Gauges(
            connections=lambda: server.sockets,
            waiting=lambda: server.waiting,
            outboxes_bytes=lambda: server.outboxes.held_bytes,
            sessions=lambda: len(hub),
            subscriptions=lambda: hub.subscriptions_count,
            with_queue=lambda: sum(subscription.path.used for subscription in hub.subscriptions()),
            without_queue=lambda: queues.count_without,
            keys=lambda: len(keys.keyring.keys) if keys is not None and keys.keyring is not None else 0,
            keys_age_s=lambda: keys.age_s if keys is not None else 0.0,
            tokens_waiting=lambda: keys.waiting_tokens if keys is not None else 0,
        )
        collectors.register(GatewayCollector(metrics, gauges))
        return AdminServer(
            self._settings.listen_host,
            self._settings.admin_port,
            readiness=self._judge_readiness,
            registry=collectors,
            healthy=lambda: self._gateway.lease_keeper.alive,
        )

    def _judge_readiness(self) -> tuple[bool, str]:
        gateway, keys = self._gateway, self._keys
        return self._readiness.judge(
            draining=self._server.draining,
            redis="" if gateway.lease_keeper.lease_held else gateway.lease_keeper.last_error,
            rabbitmq="" if gateway.broker.connected else gateway.broker.last_error,
            keys=keys.last_error if keys is not None and not keys.has_keys else "",
        )
