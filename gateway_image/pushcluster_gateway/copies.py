"""Copies: what dispatchers publish to gateways so that a message need not be read from the log (step D4)."""

from collections.abc import Mapping
from typing import NamedTuple

from pika.spec import BasicProperties

from pushcluster_contract.destinations import Destination
from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.headers import COPY_DESTINATION, COPY_EXPIRES_MS, COPY_ID, COPY_USER, select_forwarded
from pushcluster_contract.ids import StreamId
from pushcluster_contract.log import LogEntry


class Copy(NamedTuple):
    """One message for one user's destination, as a dispatcher appended it to the log."""

    user: str
    destination: Destination
    entry: LogEntry


def parse_copy(properties: BasicProperties, body: bytes) -> Copy:
    """Read a copy; raises InvalidInput when it is none."""
    headers = properties.headers or {}
    expires_ms = headers.get(COPY_EXPIRES_MS, 0)
    if not isinstance(expires_ms, int):
        raise InvalidInput(f"header {COPY_EXPIRES_MS} is not a number")
    entry = LogEntry(
        id=StreamId.parse(_text(headers, COPY_ID)),
        body=body,
        content_type=properties.content_type or "",
        producer_message_id=properties.message_id or "",
        headers=select_forwarded(headers),
        expires_ms=expires_ms,
    )
    return Copy(_text(headers, COPY_USER), Destination.parse(_text(headers, COPY_DESTINATION)), entry)


def _text(headers: Mapping[str, object], name: str) -> str:
    value = headers.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"header {name} is missing or no text")
    return value
