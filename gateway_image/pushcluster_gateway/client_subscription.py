"""One subscription of one client: its state machine, its encoder, and how far its cursor may go."""

from typing import TYPE_CHECKING

from pushcluster_contract.batch import Address
from pushcluster_contract.ids import StreamId
from pushcluster_gateway.progress import Progress
from pushcluster_gateway.stomp.requests import Subscribe
from pushcluster_gateway.stomp.serializer import MessageEncoder
from pushcluster_gateway.subscription import LogState, Subscription

if TYPE_CHECKING:
    from pushcluster_contract.log import LogEntry
    from pushcluster_contract.outcomes import ReplyRequest
    from pushcluster_gateway.client import Client


class ClientSubscription:
    """See the module."""

    __slots__ = (
        "address",
        "asked",
        "client",
        "destination",
        "encoder",
        "ended",
        "key",
        "machine",
        "marked",
        "number",
        "progress",
        "queue",
        "receipt",
    )

    def __init__(self, client: "Client", request: Subscribe, number: int) -> None:
        limits = client.services.limits
        self.client = client
        self.key = request.key
        self.number = number
        """Counts the client's subscriptions; stands in our `ack` headers."""
        self.destination = request.destination
        self.address = Address.of(client.user, request.destination).data
        """What copies for it carry."""
        self.receipt = request.receipt
        self.queue = ""
        """Name of its own queue at the broker, in mode Session."""
        self.ended = False
        """Whether the client left it: whatever still arrives for it is dropped."""
        self.marked = False
        """Whether whoever flushes cursors will look at it anyway."""
        self.asked: dict[StreamId, tuple[LogEntry, ReplyRequest]] | None = None
        """Entries without their bodies that wait for their acknowledgement and whose producers want to hear of it."""
        self.progress = Progress()
        self.machine = Subscription(
            ack_mode=request.ack_mode,
            last_message_id=request.last_message_id,
            max_unacked=limits.max_unacked_messages,
            page_entries=limits.page_entries,
        )
        self.encoder = MessageEncoder(
            version=client.stomp.version,
            ack_mode=request.ack_mode,
            subscription_id=request.id,
            number=number,
            destination=request.destination.as_subscribed(),
        )

    def registered(self, log: LogState) -> None:
        """Note what the registry knows already, so that it is not told again."""
        self.progress.flushed = (log.cursor, log.sent)

    def cursor_to_flush(self) -> tuple[StreamId, StreamId] | None:
        """Return cursor and `sent` for the registry, or None when it knows them already."""
        machine = self.machine
        self.progress.accept(self.client.socket.sample_accepted())
        cursor = self.progress.taken if machine.window is None else machine.window.cursor
        if (cursor, machine.sent) == self.progress.flushed:
            return None
        self.progress.flushed = (cursor, machine.sent)
        return self.progress.flushed

    @property
    def has_unflushed(self) -> bool:
        """Whether the cursor waits for the socket to take what was written."""
        return self.machine.window is None and self.progress.taken < self.machine.position
