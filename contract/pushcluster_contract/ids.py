"""Identifiers of clusters, users, sessions, gateway processes and log entries."""

import base64
import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_MESSAGE_ID_BYTES, MAX_USER_BYTES

SESSION_ID_CHARS: Final = 26
SESSION_ID_ENTROPY_BYTES: Final = 17
"""17 bytes are 136 bits. The 26 base32 characters of a session id hold 130 of them."""
INCARNATION_ENTROPY_BYTES: Final = 8

_SESSION_ID: Final = re.compile(r"[a-z2-7]{26}", re.ASCII)
_INCARNATION: Final = re.compile(r"([A-Za-z0-9-]{1,64})\.([0-9a-f]{16})", re.ASCII)
_STREAM_ID: Final = re.compile(r"(\d{1,16})-(\d{1,16})", re.ASCII)
_CLUSTER: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,126}[a-z0-9])?", re.ASCII)


def check_cluster(cluster: str) -> str:
    """Return `cluster` (`<namespace>.<name>`) if a Redis key and a vhost can contain it. Else raise InvalidInput."""
    if not _CLUSTER.fullmatch(cluster):
        raise InvalidInput(f"cluster {cluster!r} is not <namespace>.<name> in lower case")
    return cluster


def check_user(user: str) -> str:
    """Return `user` if it is 1 to 255 bytes of UTF-8 without control characters. Else raise InvalidInput."""
    try:
        size = len(user.encode())
    except UnicodeEncodeError:
        raise InvalidInput("user id is not valid Unicode") from None
    if not 1 <= size <= MAX_USER_BYTES:
        raise InvalidInput(f"user id has {size} bytes; 1 to {MAX_USER_BYTES} are allowed")
    if not user.isprintable():
        raise InvalidInput("user id contains a control or unprintable character")
    return user


def check_message_id(message_id: str) -> str:
    """Return a producer's idempotency key if it is 1 to 255 printable bytes. Else raise InvalidInput."""
    size = len(message_id.encode(errors="surrogatepass"))
    if not 1 <= size <= MAX_MESSAGE_ID_BYTES or not message_id.isprintable():
        raise InvalidInput(f"message id is not 1 to {MAX_MESSAGE_ID_BYTES} printable bytes")
    return message_id


def encode_user(user: str) -> str:
    """Return the user id as unpadded base64url, safe in a Redis key and its hash tag."""
    return base64.urlsafe_b64encode(check_user(user).encode()).decode().rstrip("=")


def decode_user(encoded: str) -> str:
    """Return the user id that `encode_user` encoded. Raise InvalidInput for any other text."""
    try:
        return check_user(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
    except ValueError:
        raise InvalidInput(f"{encoded[:100]!r} is not an encoded user id") from None


def session_id(entropy: bytes) -> str:
    """Return a session id from at least 17 random bytes: 26 characters of `[a-z2-7]`. An id is never reused."""
    if len(entropy) < SESSION_ID_ENTROPY_BYTES:
        raise InvalidInput(f"a session id needs {SESSION_ID_ENTROPY_BYTES} random bytes, not {len(entropy)}")
    return base64.b32encode(entropy).decode().lower()[:SESSION_ID_CHARS]


def check_session_id(sid: str) -> str:
    """Return `sid` if it has the form of a session id. Else raise InvalidInput."""
    if not _SESSION_ID.fullmatch(sid):
        raise InvalidInput(f"session id {sid[:100]!r} is not {SESSION_ID_CHARS} characters of a-z 2-7")
    return sid


@dataclass(frozen=True, slots=True, order=True)
class Incarnation:
    """One process start of a gateway: `<podUID>.<64 random bits>`.

    A restarted container keeps the UID of its pod. So the UID alone cannot fence the former process.
    """

    pod_uid: str
    nonce: str

    def __str__(self) -> str:
        return f"{self.pod_uid}.{self.nonce}"

    @classmethod
    def new(cls, pod_uid: str, entropy: bytes) -> Self:
        """Return a new incarnation from the pod's UID and 8 random bytes."""
        return cls.parse(f"{pod_uid}.{entropy.hex()}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the incarnation `<podUID>.<16 hex digits>`. Raise InvalidInput for any other text."""
        match = _INCARNATION.fullmatch(text)
        if match is None:
            raise InvalidInput(f"incarnation {text[:100]!r} is not <podUID>.<16 hex digits>")
        return cls(match[1], match[2])


class StreamId(NamedTuple):
    """A log entry's id `<ms>-<seq>`. `seq` grows by one with each message of its user and destination, without holes.

    Clients see it as `message-id` and send it back as `last-message-id`. It is a tuple for speed: ids are built,
    compared and hashed for every message that is pushed.
    """

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id `<ms>-<seq>`. Raise InvalidInput for any other text."""
        match = _STREAM_ID.fullmatch(text)
        if match is None:
            raise InvalidInput(f"message id {text[:100]!r} is not <ms>-<seq>")
        return cls(int(match[1]), int(match[2]))


ZERO_ID: Final = StreamId(0, 0)
"""The position before the first entry of a log."""
