"""Every bound that more than one program relies on, with its unit in its name."""

from typing import Final

MAX_USER_BYTES: Final = 255
"""A user id travels as an AMQP routing key: a short string, at most 255 bytes (AMQP 0-9-1, 4.2.5.3)."""

MAX_NAME_CHARS: Final = 64
"""The `<name>` in `/queue/<name>`."""

MAX_BODY_BYTES: Final = 65_536
"""The payload of one message. A larger one is rejected, never cut."""

BROKER_MAX_MESSAGE_BYTES: Final = 131_072
"""The broker's `max_message_size`, a body: a larger one costs its publisher the channel, with the reason.

Above MAX_BODY_BYTES, so that a body which is a little too large is kept in `push.rejected`; and above the largest copy.
"""

MAX_MESSAGE_ID_BYTES: Final = 255
"""AMQP's `message_id` is a short string."""

MAX_FORWARDED_HEADERS: Final = 32
"""Producer headers (`x-…`, `traceparent`) that reach the client with one message."""

MAX_FORWARDED_HEADER_BYTES: Final = 4_096
"""Names and values of all forwarded headers of one message together."""

SESSIONS_PER_USER: Final = 64
"""Sessions of one user over the whole cluster, unless the author says otherwise: bounds the work of one message."""
MAX_SESSIONS_PER_USER: Final = 256
"""What the author may say at most."""

MAX_SUBSCRIPTIONS_PER_SESSION: Final = 32

MAX_QUEUES_PER_SESSION: Final = 8
"""Subscriptions of one session that get queues of their own at the broker (mode Session): a user with all sessions that
one may have takes 512. The others share their gateway's queue, and get all the same."""

SUBSCRIPTION_QUEUES: Final = 7_000
"""Queues of subscriptions at the broker, all gateways together, unless the operator says otherwise: 1 GiB bears it."""
MAX_SUBSCRIPTION_QUEUES: Final = 1_000_000
"""What it may say at most."""

INGRESS_PARTITIONS: Final = 16
"""Never changes on a live cluster: a user's partition is a hash modulo this number."""

INGRESS_QUEUE_MAX_BYTES: Final = 256 * 1_048_576
"""A partition; a publish past it is nacked (`x-overflow=reject-publish`)."""

REJECTED_QUEUE_MAX_MESSAGES: Final = 100_000
"""The newest stay: the oldest leave first."""

REJECTED_QUEUE_MAX_BYTES: Final = 256 * 1_048_576

MAX_BATCH_COPIES: Final = 512
"""Copies that are joined into one AMQP message (`batch.py`)."""

MAX_BATCH_BYTES: Final = BROKER_MAX_MESSAGE_BYTES
"""The body of that message. One copy of the largest message always fits."""

SUBSCRIPTION_QUEUE_MAX_MESSAGES: Final = 1_000
"""Batches of copies waiting for one subscription. The oldest leave first; the log has them (step G5)."""

SUBSCRIPTION_QUEUE_MAX_BYTES: Final = 4 * 1_048_576

GATEWAY_QUEUE_MAX_MESSAGES: Final = 100_000
"""Batches of copies waiting for one gateway. The oldest leave first; the log has them (step G5)."""

GATEWAY_QUEUE_MAX_BYTES: Final = 64 * 1_048_576

REPLY_QUEUE_MAX_MESSAGES: Final = 10_000
"""Outcomes waiting for one dispatcher's HTTP API. The oldest leave first; whoever waits for them hears `pending`."""

REPLY_QUEUE_MAX_BYTES: Final = 16 * 1_048_576

LOG_PAGE_ENTRIES: Final = 100
"""Log entries that one CATCHUP read asks for."""

DISPATCHER_PREFETCH_MESSAGES: Final = 500
"""Unacknowledged ingress messages a partition; also the largest batch of APPEND scripts."""

LEASE_MS: Final = 8_000
LEASE_RENEW_MS: Final = 2_000
LOST_GATEWAY_MS: Final = 60_000
"""A gateway whose lease ran out this long ago is taken for lost where its sessions hold places that their user needs.

As long as the operator waits for a pod that is not ready. Should it come back after all, it resyncs."""

WALK_ROUND_MS: Final = 120_000
"""A gateway looks at each of its sessions once in about this time (step G1)."""

MIN_KEPT_DELIVERED_MS: Final = 180_000
"""What one session of a user has got stays this long at least, however short the resume window: another one whose copy
was lost may read it from the log until its gateway's walk has come by, and a slow one until it is closed."""

TRIMMED_ENTRIES: Final = 1_000
"""Entries that one move of a cursor takes out of a log."""

SESSIONS_TTL_MS: Final = 600_000
"""`{u}:sessions` expires this long after the last gateway's walk touched it."""

META_EXTRA_TTL_MS: Final = 7 * 86_400_000
"""`{u}:meta:<dest>` outlives its log by this, so that sequence numbers go on and drops can be counted."""

REMOVAL_BATCH_SESSIONS: Final = 200
"""Sessions that one round trip of a clean-up removes."""

ENDPOINTS_S: Final = 2.0
"""How long load balancers may take to see that a pod is not ready: so long one that stops still serves who comes."""
