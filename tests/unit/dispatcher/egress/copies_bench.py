"""A publisher of copies with a broker that is played."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pika.spec import BasicProperties

from pushcluster_contract.batch import parse_batch, parse_copy
from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_contract.ids import Incarnation
from pushcluster_contract.routing import RoutingMode, gateway_queue
from pushcluster_dispatcher.egress.copies import CopyPublisher
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.messages import Message
from pushcluster_dispatcher.metrics import Metrics
from pushcluster_runtime.amqp import ConfirmOutcome, PropertiesTemplate

DEMO = Destination("queue", "demo")
INCARNATION, OTHER_GATEWAY = Incarnation("pod", "0" * 16), Incarnation("pod", "1" * 16)
SID_1, SID_2 = "a" * 26, "b" * 26
KEY_1, KEY_2, QUEUE = f"demo-user{SID_1}", f"demo-user{SID_2}", gateway_queue(INCARNATION)
WALL_S = 1_700_000_000.5
OTHER_QUEUE = gateway_queue(OTHER_GATEWAY)
ALL_CONFIRMED = {
    KEY_1: ConfirmOutcome.CONFIRMED,
    KEY_2: ConfirmOutcome.CONFIRMED,
    QUEUE: ConfirmOutcome.CONFIRMED,
    OTHER_QUEUE: ConfirmOutcome.CONFIRMED,
    "": ConfirmOutcome.CONFIRMED,
}


@dataclass
class PlayedConnection:
    """Answers at once with the outcome that `outcomes` has for a routing key, or leaves it open."""

    outcomes: dict[str, ConfirmOutcome] = field(default_factory=dict)
    published: list[tuple[str, str, list[str]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    properties: list[PropertiesTemplate] = field(default_factory=list)
    stamped: list[BasicProperties] = field(default_factory=list)
    """The properties of messages with a copy that is followed. All others are in `properties`."""
    open: list[asyncio.Future[ConfirmOutcome]] = field(default_factory=list)
    takes: bool = True
    gone: bool = False
    unencodable: str | None = None
    lost: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def channel(self) -> "PlayedConnection | None":
        return self if self.takes else None

    async def wait_connected(self) -> "PlayedConnection":
        return self

    @property
    def blocked(self) -> bool:
        return not self.takes

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | PropertiesTemplate,
        *,
        mandatory: bool,
    ) -> asyncio.Future[ConfirmOutcome]:
        assert mandatory
        if self.gone:
            raise Unavailable("gone")
        if routing_key == self.unencodable:
            raise InvalidInput("AMQP cannot carry this")
        if isinstance(properties, PropertiesTemplate):
            self.properties.append(properties)
        else:
            self.stamped.append(properties)
        self.bodies.append(body)
        found = [parse_copy(body, position).body.decode() for _, position in parse_batch(body)]
        self.published.append((exchange, routing_key, found))
        future: asyncio.Future[ConfirmOutcome] = asyncio.get_running_loop().create_future()
        if routing_key in self.outcomes:
            future.set_result(self.outcomes[routing_key])
        else:
            self.open.append(future)
        return future


@dataclass
class Bench:
    publisher: PlayedConnection
    mode: RoutingMode = RoutingMode.SESSION
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.copies = CopyPublisher(self.publisher, self.mode, self.metrics, wall_clock=lambda: WALL_S)

    async def send(self, *appended: tuple[Message, Appended], partition: int = 0) -> None:
        """Send, and wait until nothing more is to be waited for."""
        async with asyncio.timeout(5):
            for settled in await self.copies.send(partition, appended):
                await settled

    def held_bytes(self, partition: int = 0) -> int:
        return self.copies._budgets[partition].held_bytes

    def count(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pushcluster_dispatcher_{name}_total")


def bench(outcomes: dict[str, ConfirmOutcome] | None = None, mode: RoutingMode = RoutingMode.SESSION) -> Bench:
    return Bench(PlayedConnection(ALL_CONFIRMED if outcomes is None else outcomes), mode)


def entry(*sids: str, stream_id: bytes = b"1-1", expires_ms: int = 0, gateway: Incarnation = INCARNATION) -> Appended:
    """Return an entry for these sessions. SID_2 is at the other gateway, so that each has a queue of its own."""
    gateways = {SID_2: OTHER_GATEWAY}
    sessions = "\n".join(f"{sid} {gateways.get(sid, gateway)}" for sid in sids).encode()
    return Appended(stream_id, known=False, dropped=0, sessions=sessions, expires_ms=expires_ms)


def message(body: bytes | str = b"hi", user: str = "alice", **fields: Any) -> Message:
    return Message(user, DEMO, body.encode() if isinstance(body, str) else body, **fields)
