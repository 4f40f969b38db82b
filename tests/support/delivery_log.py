"""What publishers attempted, what a log held, and what clients saw: everything that the judge of deliveries looks at.

Nothing here is what a gateway says about itself.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from pushcluster_contract.ids import StreamId

Channel = tuple[str, str]
"""(user, destination)."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One message of a publisher; its place in `History.attempts` is the order of first attempts."""

    body: str
    attempted_at: float
    """Seconds of the same clock as `Subscribed.subscribed_at`."""
    confirmed: bool = False
    expires: bool = False
    """It carries an `expiration` that may pass before it is seen: then it may never be."""
    identified: bool = True
    """It carries a message id."""
    published_again_at: list[float] = field(default_factory=list)
    """When its publisher, who missed the confirm, sent it once more. Seconds of the same clock."""
    returned_at: list[float] = field(default_factory=list)
    """When the broker lost the AMQP channel of a dispatcher that held it unacknowledged. Seconds of the same clock."""


class Fate(Enum):
    """What became of a log entry."""

    KEPT = auto()
    LIMITS = auto()
    """Trimmed by `maxPerDestination`, or `ttlSeconds` old: promise 3 lets it go."""
    WINDOW = auto()
    """Trimmed because some session had got it and the resume window was over: promise 4 lets it go."""
    VANISHED = auto()
    """Lost with a Redis that had it in memory alone: its message must come again, under another id."""
    WIPED = auto()
    """Somebody emptied Redis: gone, but not in silence."""


@dataclass(slots=True)
class Entry:
    """One entry that a log held at some time."""

    id: StreamId
    body: str
    fate: Fate = Fate.KEPT
    forgotten: bool = False
    """Somebody has emptied Redis, or forgotten the user, since: nobody can know that the message was here."""
    id_expired: bool = False
    """Its message id was known once more, and had expired."""
    appended_at: float | None = None
    """Seconds of the same clock as the attempt's; None: nobody knows."""
    fenced_at: float | None = None
    """When the fence was raised to the token that it was appended with; None: never, or nobody knows."""
    marked: bool = False
    """It says `possibly-repeated:true`."""
    term: int = 0
    """Grows with each consumer of ingress that is fed after another; of whoever appended this. 0: nobody knows."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One MESSAGE, as its client got it."""

    id: StreamId
    body: str
    redelivered: bool = False
    recovered: bool | None = None


@dataclass(slots=True)
class Subscribed:
    """One subscription in one session of one device."""

    device: str
    acknowledges: bool = False
    """Ack modes `client` and `client-individual`."""
    last_message_id: StreamId | None = None
    lies: bool = False
    """`last_message_id` says nothing about what the client has."""
    session: str = ""
    """Its connection; empty: nobody knows."""
    asked_at: float = 0.0
    """When SUBSCRIBE was sent."""
    subscribed_at: float | None = None
    """When its RECEIPT came."""
    recovered: bool | None = None
    """On the RECEIPT."""
    seen: list[Seen] = field(default_factory=list)
    handled: set[StreamId] = field(default_factory=set)
    """ACK or NACK was sent."""
    unread: set[StreamId] = field(default_factory=set)
    """What the client's TCP acknowledged and the client never read, as far as known: in ack mode `auto` promise 1 ends
    there."""
    open: bool = False
    """It still stands at the end."""

    @property
    def has(self) -> StreamId | None:
        """Up to where the client truly has everything, as it said in SUBSCRIBE; None: it said nothing, or lied."""
        return None if self.lies else self.last_message_id


@dataclass(slots=True)
class History:
    """Everything about one user's destination."""

    attempts: list[Attempt] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    """In the order of appends."""
    fates_known: bool = False
    """`log` holds what has left it too; else nobody can say that `recovered:false` was needless."""
    subscriptions: list[Subscribed] = field(default_factory=list)
    """In the order of SUBSCRIBE."""
    rejected: set[str] = field(default_factory=set)
    """Bodies that went to `push.rejected`."""
    emptied_at: list[float] = field(default_factory=list)
    """When somebody emptied Redis. Seconds of the same clock as the attempts'."""
    noted: list[tuple[float, StreamId]] = field(default_factory=list)
    """From when on Redis knew, without a break to the end, that everything up to this id was sent to somebody."""
    lossless: bool = False
    """Redis lost nothing that it was told: then a session's next subscription knows what the one before has got."""
