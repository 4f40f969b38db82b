"""AMQP header names: what producers send, and what copies carry to gateways."""

from collections.abc import Mapping
from typing import Final

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.limits import MAX_FORWARDED_HEADER_BYTES, MAX_FORWARDED_HEADERS

DESTINATION: Final = "destination"
"""On a published message: `/queue/<name>` or `/topic/<name>`."""

FURTHER_ROUTING_KEYS: Final = "CC"
"""RabbitMQ's sender-selected distribution; its other header, `BCC`, is gone when the message arrives."""

REJECT_REASON: Final = "pushcluster-reject-reason"
"""On a message in `push.rejected`: why, in words."""
REJECT_USER: Final = "pushcluster-user"
"""On a message in `push.rejected`: the routing key that it came with."""

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


def is_forwarded(name: str) -> bool:
    """Tell whether a producer's header of this name may reach the client."""
    return name == TRACEPARENT or name.startswith(FORWARDED_PREFIX)


def select_forwarded(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the producer headers that reach the client: `x-…` and `traceparent`, with text values.

    Leaves out what brokers on the way add. Raises InvalidInput past the limits, or when a value is no plain
    string, number or boolean.
    """
    forwarded: dict[str, str] = {}
    for name, value in headers.items():
        if not is_forwarded(name):
            continue
        if name in _BROKER_HEADERS or name.startswith(_BROKER_PREFIXES):
            continue
        forwarded[name] = _text(name, value)
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
