"""Frames, and the types of the values in their headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Version(StrEnum):
    """A version of the protocol. Older versions compare as smaller."""

    V1_0 = "1.0"
    V1_1 = "1.1"
    V1_2 = "1.2"


SUBPROTOCOLS: Final[Mapping[str, Version]] = {
    "v12.stomp": Version.V1_2,
    "v11.stomp": Version.V1_1,
    "v10.stomp": Version.V1_0,
}
"""WebSocket subprotocols, in order of preference."""


class AckMode(StrEnum):
    """The header `ack` of SUBSCRIBE."""

    AUTO = "auto"
    CLIENT = "client"
    CLIENT_INDIVIDUAL = "client-individual"


@dataclass(frozen=True, slots=True)
class Frame:
    """One STOMP frame. The first of repeated headers counts (1.2, Repeated Header Entries)."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """The header `heart-beat`: the intervals that its sender offers and wants, in ms; 0: none (1.2, Heart-beating)."""

    can_ms: int = 0
    wants_ms: int = 0

    def __str__(self) -> str:
        return f"{self.can_ms},{self.wants_ms}"


def negotiate_interval_ms(can_ms: int, wants_ms: int) -> int:
    """Return the interval of heart-beats from the side that can send them to the side that wants them; 0: none."""
    return max(can_ms, wants_ms) if can_ms and wants_ms else 0
