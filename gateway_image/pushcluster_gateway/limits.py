"""Every bound inside a gateway. Each name ends with the unit, and for each bound a test sends one more than it allows.

Bounds on which other programs rely too are in `pushcluster_contract.limits`.
"""

from dataclasses import dataclass

from pushcluster_contract.limits import (
    LOG_PAGE_BYTES,
    LOG_PAGE_ENTRIES,
    LOST_GATEWAY_MS,
    MAX_QUEUES_PER_SESSION,
    MAX_SUBSCRIPTIONS_PER_SESSION,
    MIN_KEPT_DELIVERED_MS,
    OUTBOXES_BYTES,
    UNAUTHENTICATED_BYTES,
    WALK_ROUND_MS,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one process. Tests use smaller ones."""

    max_handshake_bytes: int = 16_384
    """The HTTP request that opens a WebSocket, with its headers."""

    handshake_timeout_s: float = 10.0
    """From the TCP connection to the end of the HTTP request."""

    connect_timeout_s: float = 10.0
    """From the open WebSocket to a valid CONNECT frame, and to the decision if that waits for a token's key."""

    min_connect_s: float = 1.0
    """From the open WebSocket: a full gateway does not evict a client earlier, so that it can send its CONNECT."""

    max_unauthenticated_bytes: int = 20_480
    """What a client may send over its WebSocket before its token is accepted. The largest CONNECT fits in."""

    max_all_unauthenticated_bytes: int = UNAUTHENTICATED_BYTES
    """What all clients together may have sent before their tokens are accepted, their HTTP requests included.

    Beyond it those who began first are evicted.
    """

    close_timeout_s: float = 5.0
    """From our close frame to the client's. Then the gateway cuts the socket."""

    max_frame_bytes: int = 65_536
    """One WebSocket message from a client, and the body of one STOMP frame."""

    max_head_bytes: int = 16_384
    """Command and headers of one STOMP frame. A JWT must fit in."""

    max_read_bytes: int = 262_144
    """The most bytes that one read of a socket returns (asyncio). They stay in memory while their frames wait."""

    max_headers: int = 64
    """Header lines of one STOMP frame."""

    max_subscriptions: int = MAX_SUBSCRIPTIONS_PER_SESSION
    """Subscriptions of one session."""

    max_queues: int = MAX_QUEUES_PER_SESSION
    """Subscriptions of one session with a queue of their own at the broker. The others share the gateway's queue."""

    subscribe_burst: int = 3 * MAX_SUBSCRIPTIONS_PER_SESSION
    """SUBSCRIBE and UNSUBSCRIBE frames of one session at once: enough to subscribe to all, and later to all others.

    For one more the gateway stops reading, until `subscribes_per_s` allows it. Nothing is refused.
    """

    subscribes_per_s: float = 10.0
    """How fast a session may go on after `subscribe_burst`. Each such frame costs Redis several calls."""

    own_queue_after_s: float = 4.0
    """A subscription gets a queue of its own when it has lasted so long. Shorter ones cost the broker nothing.

    The gateway's queue carries its copies until then. With the time to open the queue, this is within 5 s of the
    RECEIPT, unless very many subscriptions came at once.
    """

    max_subscription_id_chars: int = 128
    """The client's `id` of a subscription, which every MESSAGE repeats."""

    max_transactions: int = 16
    """Open transactions of one session."""

    max_transaction_frames: int = 1_000
    """ACK and NACK frames that wait in all open transactions of one session."""

    max_calls_in_flight: int = 64
    """SUBSCRIBE, UNSUBSCRIBE and NACK frames of one session in progress. At this number the gateway stops reading."""

    max_unacked_messages: int = 1_000
    """Messages of one subscription that are written and not yet acknowledged. At this number it pauses."""

    max_refused_copies: int = 60
    """Copies in `push.refused` that one user may cause at once, at one gateway. Further NACKs count as handled."""

    refused_copies_per_s: float = 1.0
    """The same bound in the long run."""

    max_outbox_bytes: int = 262_144
    """Bytes that wait for one client's socket. Beyond it the subscriptions pause, and reread the log later."""

    max_all_outboxes_bytes: int = OUTBOXES_BYTES
    """The same bytes of all clients together. `transport/outbox_budget.py` says who pauses when they grow."""

    max_outbox_messages: int = 1_000
    """The same bound, in MESSAGE frames."""

    max_control_bytes: int = 65_536
    """RECEIPT frames that may wait for one client's socket beyond `max_outbox_bytes`. Then the gateway stops reading.

    It still answers what the last read returned: about another 256 KiB at most.
    """

    slow_consumer_s: float = 30.0
    """A client whose socket has taken nothing for this long is closed."""

    page_entries: int = LOG_PAGE_ENTRIES
    """Log entries that a subscription in CATCHUP reads at once."""

    page_bytes: int = LOG_PAGE_BYTES
    """The same bound in bytes. A subscription whose client's outbox has less room reads less."""

    max_page_reads: int = 4
    """Pages that the subscriptions of one session read at once. They share the room in the outbox, and others wait."""

    walk_round_s: float = WALK_ROUND_MS / 1_000
    """The walk refreshes each session once in about this time, and so finds a lost copy even if nothing else does."""

    min_kept_delivered_s: float = MIN_KEPT_DELIVERED_MS / 1_000
    """A log entry stays at least this long after some session got it. A longer resume window keeps it longer."""

    lost_gateway_s: float = LOST_GATEWAY_MS / 1_000
    """A gateway is taken for lost when its lease ran out this long ago and Redis has been answering us as long."""

    leaving_session_s: float = 1.0
    """At the session limit, a user's CONNECT waits this long in case another session is just leaving."""

    server_heart_beat_ms: int = 10_000
    """The gateway offers to send a heart-beat this often."""

    client_heart_beat_ms: int = 25_000
    """The gateway asks for a heart-beat this often, from clients that can send them."""

    heart_beat_grace: float = 2.5
    """A client is closed after this many silent heart-beat intervals: browsers slow down the timers of hidden pages."""

    ping_interval_s: float = 25.0
    """Between WebSocket pings to clients without heart-beats. A client without a pong until the next one is closed."""
