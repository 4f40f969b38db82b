"""AMQP header names: what producers send, and what copies carry to gateways."""

from collections.abc import Mapping
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_FORWARDED_HEADER_BYTES, MAX_FORWARDED_HEADERS

DESTINATION: Final = "destination"
"""On a published message: `/queue/<name>` or `/topic/<name>`."""

FURTHER_ROUTING_KEYS: Final = "CC"
"""RabbitMQ's sender-selected distribution. The broker removes its other header, `BCC`, before the message arrives."""

REJECT_REASON: Final = "pushcluster-reject-reason"
"""On a message in `push.rejected` or `push.refused`: the reason in words."""
REJECT_USER: Final = "pushcluster-user"
"""On such a message: the routing key with which it was published, which is the user id."""

POSSIBLY_REPEATED: Final = "possibly-repeated"
"""On a message for a client, `true`: it may have come before, under another `message-id`. Producers cannot set it."""

TRACEPARENT: Final = "traceparent"
FORWARDED_PREFIX: Final = "x-"
_BROKER_HEADERS: Final = frozenset(
    {
        "x-death",
        "x-delivery-count",
        "x-acquired-count",
        "x-opt-delivery-count",
        "x-shovelled",  # by a shovel between brokers
        "x-received-from",  # by federation
    }
)
_BROKER_PREFIXES: Final = ("x-first-death-", "x-last-death-")


def forwarded_name(name: str) -> str | None:
    """Return the name under which the client gets a producer's header; None if it stays here.

    Producers may write the prefix and `traceparent` in any case. Names in STOMP are case-sensitive, so `X-Kind` becomes
    `x-kind`. A name that begins with `x-` stays as it is.
    """
    if name.startswith(FORWARDED_PREFIX):
        return name
    lower = name.lower()
    return lower if lower == TRACEPARENT or lower.startswith(FORWARDED_PREFIX) else None


def select_forwarded(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the producer's headers that reach the client: `x-…` and `traceparent`, with their values as text.

    Raise InvalidInput for more than the limits allow, for a value that is not a string, number or boolean, and for two
    headers that the client would get under one name. Headers that brokers add on the way are left out.
    """
    forwarded: dict[str, str] = {}
    for name, value in headers.items():
        seen = forwarded_name(name)
        if seen is None or seen in _BROKER_HEADERS or seen.startswith(_BROKER_PREFIXES):
            continue
        if seen in forwarded:
            raise InvalidInput(f"header {name[:100]!r} is there twice: clients would get both as {seen[:100]!r}")
        forwarded[seen] = _text(name, value)
    size = sum(len(name.encode()) + len(value.encode()) for name, value in forwarded.items())
    if len(forwarded) > MAX_FORWARDED_HEADERS or size > MAX_FORWARDED_HEADER_BYTES:
        raise InvalidInput(
            f"{len(forwarded)} forwarded headers with {size} bytes; "
            f"at most {MAX_FORWARDED_HEADERS} with {MAX_FORWARDED_HEADER_BYTES} bytes are allowed"
        )
    return forwarded


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"header {name[:100]!r} is not UTF-8") from None
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidInput(f"header {name[:100]!r} is neither text, number nor boolean")
