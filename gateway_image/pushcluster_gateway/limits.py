"""Every bound inside a gateway, with its unit in its name. A test sends one more than each allows.

Bounds that other programs rely on too stand in `pushcluster_contract.limits`.
"""

from dataclasses import dataclass

from pushcluster_contract.limits import (
    LOG_PAGE_ENTRIES,
    LOST_GATEWAY_MS,
    MAX_QUEUES_PER_SESSION,
    MAX_SUBSCRIPTIONS_PER_SESSION,
    MIN_KEPT_DELIVERED_MS,
    WALK_ROUND_MS,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """One value for the whole process; tests make smaller ones."""

    max_handshake_bytes: int = 16_384
    """HTTP request that opens a WebSocket, with its headers."""

    handshake_timeout_s: float = 10.0
    """From the TCP connection to the end of the HTTP request."""

    connect_timeout_s: float = 10.0
    """From the open WebSocket to a valid CONNECT frame, and to the decision on it where a token's key is waited for."""

    min_connect_s: float = 1.0
    """From the open WebSocket: so long a client has for its CONNECT although a full gateway has others who wait."""

    close_timeout_s: float = 5.0
    """From our close frame to the client's; then the socket is cut."""

    max_frame_bytes: int = 65_536
    """One WebSocket message from a client, and the body of one STOMP frame. Holds before authentication."""

    max_head_bytes: int = 16_384
    """Command and headers of one STOMP frame; a JWT must fit."""

    max_read_bytes: int = 262_144
    """What one read of a socket may bring (asyncio): it is held whole while frames of it wait for calls under way."""

    max_headers: int = 64
    """Header lines of one STOMP frame."""

    max_subscriptions: int = MAX_SUBSCRIPTIONS_PER_SESSION
    """Subscriptions of one session."""

    max_queues: int = MAX_QUEUES_PER_SESSION
    """Subscriptions of one session with a queue of their own at the broker; the others share the gateway's."""

    max_subscription_id_chars: int = 128
    """The client's own `id` of a subscription: it stands in every MESSAGE."""

    max_transactions: int = 16
    """Open transactions of one session."""

    max_transaction_frames: int = 1_000
    """ACK and NACK frames that wait in all open transactions of one session."""

    max_calls_in_flight: int = 64
    """SUBSCRIBE, UNSUBSCRIBE and NACK frames of one session that are being worked on; past it nothing more is read."""

    max_unacked_messages: int = 1_000
    """Written and not yet acknowledged, a subscription; past it the subscription pauses."""

    max_outbox_bytes: int = 262_144
    """Waiting for one client's socket; past it its subscriptions pause and reread the log later."""

    max_outbox_messages: int = 1_000
    """The same in MESSAGE frames."""

    max_control_bytes: int = 65_536
    """Beyond `max_outbox_bytes`, RECEIPT frames waiting for one client's socket; past it nothing more is read from it.

    What one read has brought is still answered: at most about another 256 KiB.
    """

    slow_consumer_s: float = 30.0
    """A client whose socket has taken nothing for this long is closed."""

    page_entries: int = LOG_PAGE_ENTRIES
    """Log entries that one CATCHUP read asks for."""

    walk_round_s: float = WALK_ROUND_MS / 1_000
    """Each session is looked at once in about this time, so that a lost copy is found even if nothing else happens."""

    min_kept_delivered_s: float = MIN_KEPT_DELIVERED_MS / 1_000
    """Log entries that some session has got are kept this long, or for the resume window if that is longer."""

    lost_gateway_s: float = LOST_GATEWAY_MS / 1_000
    """For how long a gateway's lease must have run out, and Redis have answered us, before we take it for lost."""

    leaving_session_s: float = 1.0
    """A CONNECT of a user who has all sessions that one may have waits this long for one that is just leaving."""

    server_heart_beat_ms: int = 10_000
    """The gateway can send a heart-beat this often."""

    client_heart_beat_ms: int = 25_000
    """The gateway wants a heart-beat this often, from clients that can send them."""

    heart_beat_grace: float = 2.5
    """A client is given up after this many heart-beat intervals: browsers slow down the timers of hidden pages."""

    ping_interval_s: float = 25.0
    """WebSocket ping to clients without heart-beats; no pong until the next one closes the connection."""
