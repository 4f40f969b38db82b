"""Every bound on which more than one program relies. Each name ends with the unit."""

from typing import Final

MAX_USER_BYTES: Final = 255
"""A user id travels as an AMQP routing key: a short string, at most 255 bytes (AMQP 0-9-1, 4.2.5.3)."""

MAX_NAME_CHARS: Final = 64
"""The `<name>` in `/queue/<name>`."""

MAX_BODY_BYTES: Final = 65_536
"""The payload of one message. A larger one is rejected, never cut."""

BROKER_MAX_MESSAGE_BYTES: Final = 131_072
"""The broker's `max_message_size`, for a body. If a body is larger, the broker closes the channel and says why.

It is above MAX_BODY_BYTES, so that a body which is a little too large still goes to `push.rejected`. It is also above
the size of the largest copy.
"""

MAX_MESSAGE_ID_BYTES: Final = 255
"""AMQP's `message_id` is a short string."""

MAX_FORWARDED_HEADERS: Final = 32
"""Producer's headers (`x-…`, `traceparent`) that one message may carry to the client."""

MAX_FORWARDED_HEADER_BYTES: Final = 4_096
"""Names and values of all forwarded headers of one message together."""

SESSIONS_PER_USER: Final = 64
"""Default of `spec.gateway.maxSessionsPerUser`, over the whole cluster. It bounds the work for one message."""
MAX_SESSIONS_PER_USER: Final = 256
"""The largest value of `spec.gateway.maxSessionsPerUser`."""

MAX_SUBSCRIPTIONS_PER_SESSION: Final = 32

MAX_QUEUES_PER_SESSION: Final = 8
"""Subscriptions of one session that get queues of their own at the broker, in mode Session.

So a user with the default number of sessions has at most 512 queues. The other subscriptions share the queue of their
gateway. They get the same messages.
"""

SUBSCRIPTION_QUEUES: Final = 7_000
"""Subscription queues at the broker, of all gateways together, unless the operator sets another number.

A broker with 1 GiB of memory can hold so many.
"""
MAX_SUBSCRIPTION_QUEUES: Final = 1_000_000
"""The largest number that the operator may set."""

OUTBOXES_BYTES: Final = 128 * 1_048_576
"""What waits for all clients of one gateway together, unless the operator sets another number.

A gateway with the default memory limit and the default number of connections has memory for it.
"""
MIN_OUTBOXES_BYTES: Final = 16 * 1_048_576
"""The smallest number that the operator sets, however little memory a gateway has."""
MAX_OUTBOXES_BYTES: Final = 2**50
"""The largest number that the operator may set."""

UNAUTHENTICATED_BYTES: Final = 32 * 1_048_576
"""What all clients of one gateway together have sent before their tokens are accepted."""

INGRESS_PARTITIONS: Final = 16
"""Never change it on a live cluster: a user's partition is a hash modulo this number."""

INGRESS_QUEUE_MAX_BYTES: Final = 256 * 1_048_576
"""Of one partition. Beyond it the broker nacks a publish (`x-overflow=reject-publish`)."""

REJECTED_QUEUE_MAX_MESSAGES: Final = 100_000
"""The broker drops the oldest messages first."""

REJECTED_QUEUE_MAX_BYTES: Final = 256 * 1_048_576

REFUSED_QUEUE_MAX_MESSAGES: Final = 100_000
"""The broker drops the oldest messages first."""

REFUSED_QUEUE_MAX_BYTES: Final = 256 * 1_048_576

MAX_BATCH_COPIES: Final = 512
"""Copies that one AMQP message may hold (`batch.py`)."""

MAX_BATCH_BYTES: Final = BROKER_MAX_MESSAGE_BYTES
"""Body of one AMQP message with copies. One copy of the largest message always fits."""

SUBSCRIPTION_QUEUE_MAX_MESSAGES: Final = 1_000
"""Batches of copies that wait for one subscription. The broker drops the oldest first; the log has the messages."""

SUBSCRIPTION_QUEUE_MAX_BYTES: Final = 4 * 1_048_576

GATEWAY_QUEUE_MAX_MESSAGES: Final = 100_000
"""Batches of copies that wait for one gateway. The broker drops the oldest first; the log has the messages."""

GATEWAY_QUEUE_MAX_BYTES: Final = 64 * 1_048_576

REPLY_QUEUE_MAX_MESSAGES: Final = 10_000
"""Outcomes that wait for one dispatcher's HTTP API.

The broker drops the oldest first. A request that waits for a dropped outcome gets `pending`.
"""

REPLY_QUEUE_MAX_BYTES: Final = 16 * 1_048_576

LOG_PAGE_ENTRIES: Final = 100
"""Log entries that a subscription in CATCHUP reads at once."""

LOG_PAGE_BYTES: Final = 262_144
"""The same bound in bytes. One entry is read in any case."""

DISPATCHER_PREFETCH_MESSAGES: Final = 500
"""Unacknowledged ingress messages of one partition. It is also the largest batch of APPEND scripts."""

LEASE_MS: Final = 8_000
LEASE_RENEW_MS: Final = 2_000
LOST_GATEWAY_MS: Final = 60_000
"""A gateway is taken for lost when its lease ran out this long ago.

Other gateways then remove its sessions of a user who has reached the session limit. The operator waits as long for a
pod that is not ready. A gateway that comes back after all resyncs.
"""

WALK_ROUND_MS: Final = 120_000
"""A gateway's walk refreshes each of its sessions once in about this time."""

MIN_KEPT_DELIVERED_MS: Final = 180_000
"""An entry stays in the log for at least this time after one session got it, however short the resume window is.

Another session whose copy was lost can then still read it: its gateway's walk reaches it within this time. A slow
session can read it until it is closed.
"""

MAX_TRIMMED_ENTRIES: Final = 1_000
"""Entries that one move of a cursor trims from a log."""

SESSIONS_TTL_MS: Final = 600_000
"""`{u}:sessions` expires this long after a gateway's walk last refreshed it."""

META_EXTRA_TTL_MS: Final = 7 * 86_400_000
"""`{u}:meta:<dest>` outlives its log by this time, so that sequence numbers continue and drops can be counted."""

REMOVAL_BATCH_SESSIONS: Final = 200
"""Sessions that a clean-up removes in one round trip."""

ENDPOINTS_UPDATE_S: Final = 2.0
"""How long load balancers may take to notice that a pod is not ready. A stopping pod still serves clients so long."""
