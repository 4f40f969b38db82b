"""Redis keys. The hash tag `{u}` puts all keys of one user into one hash slot."""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import Incarnation, check_cluster, check_session_id, decode_user, encode_user


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the cluster `<namespace>.<name>`, all below `pc:<cluster>:`."""

    cluster: str

    def __post_init__(self) -> None:
        check_cluster(self.cluster)

    def sessions(self, user: str) -> str:
        """Hash: session id → session entry (see `session_entry.SessionEntry`)."""
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:sessions"

    def log(self, user: str, destination: Destination) -> str:
        """Stream with ids `<ms>-<seq>`; fields as in `log_entry.LogEntry`."""
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:log:{destination.kind}:{destination.name}"

    def meta(self, user: str, destination: Destination) -> str:
        """Hash: born, ms, seq, cursor, sent, accounted, missed, attempt, found, tidied, many (see `lua/append.lua`)."""
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:meta:{destination.kind}:{destination.name}"

    def message(self, user: str, destination: Destination, message_id: str) -> str:
        """String: the stream id that the message with this producer's message id got (idempotency).

        The key holds half of the SHA-256, to save memory: there is one key for every message. That is still long
        enough that no two ids of a user collide by chance.
        """
        digest = hashlib.sha256(f"{destination}\n{message_id}".encode()).digest()[:16]
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:id:{urlsafe_b64encode(digest).decode().rstrip('=')}"

    def destinations(self, user: str) -> str:
        """Set: the destinations of which the user has a log or meta. Forgetting the user removes all of these."""
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:destinations"

    def recipients(self, user: str, destination: Destination) -> str:
        """String: which of the user's many sessions have this destination (see `lua/append.lua`). It may vanish."""
        return f"pc:{self.cluster}:{{{encode_user(user)}}}:recipients:{destination.kind}:{destination.name}"

    @property
    def gateways(self) -> str:
        """Sorted set: incarnation → lease expiry, ms since the epoch by Redis TIME."""
        return f"pc:{self.cluster}:gateways"

    @property
    def without_broker(self) -> str:
        """Hash: incarnation → since when that gateway has had no connection to RabbitMQ, ms by Redis TIME.

        A gateway writes its field together with its lease, and removes it when the connection is back.
        """
        return f"pc:{self.cluster}:without-broker"

    def gateway(self, incarnation: Incarnation) -> str:
        """Set of `encode_member(user, sid)`: the sessions that a clean-up of this incarnation has to remove."""
        return f"pc:{self.cluster}:gw:{incarnation}"

    def token(self, partition: int) -> str:
        """String: the fencing token of this ingress partition that was handed out last (see `lua/take_token.lua`)."""
        return f"pc:{self.cluster}:token:{partition:02}"

    def fence(self, partition: int) -> str:
        """String: the fencing token below which no APPEND of this partition runs (see `lua/raise_fence.lua`).

        Unlike the keys of a user it stands in a hash slot of its own: a Redis Cluster would need another fence.
        """
        return f"pc:{self.cluster}:fence:{partition:02}"

    @property
    def barrier(self) -> str:
        """String: the durability barrier overwrites it before it waits for the disk."""
        return f"pc:{self.cluster}:barrier"


def encode_member(user: str, sid: str) -> str:
    """Return a member of `Keys.gateway`: `<u> <sid>`."""
    return f"{encode_user(user)} {check_session_id(sid)}"


def parse_member(member: str) -> tuple[str, str]:
    """Return (user, sid) of a member that `encode_member` made. Raise InvalidInput for any other text."""
    encoded, separator, sid = member.partition(" ")
    if not separator:
        raise InvalidInput(f"{member[:100]!r} is not '<user> <sid>'")
    return decode_user(encoded), check_session_id(sid)


def parse_lease(member: bytes) -> Incarnation | None:
    """Return whose lease a member of `gateways` is, or None when no gateway wrote it: then no session depends on it."""
    try:
        return Incarnation.parse(member.decode())
    except (InvalidInput, UnicodeDecodeError):
        return None
