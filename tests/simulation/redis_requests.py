"""What a program has sent to a simulated Redis, and how much of it has arrived."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.simulation.loop import Owner


class Connection(Protocol):
    """A program's side of a connection that keeps the order of what it sends."""

    owner: Owner
    last_arrival: float
    """When what was sent last arrives."""

    def break_(self, reason: str) -> None:
        """Close it at the program."""


class Pipeline:
    """Commands that Redis may read in parts."""

    @property
    def appends(self) -> bool:
        """Whether one of them is an APPEND."""
        raise NotImplementedError

    def run_up_to(self, share: float) -> None:
        """Run what belongs to this share of the commands and has not run yet."""
        raise NotImplementedError

    def __call__(self) -> Any:
        """Run what has not run yet, and return all replies."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Synced:
    """A reply that waits for an fsync."""

    value: Any


@dataclass(slots=True, eq=False)
class Request:
    """Something that a program has sent."""

    reply: asyncio.Future[Any]
    owner: Owner
    work: Callable[[], Any]
    connection: Connection | None
    life: int
    term: int
    """The sender's, if it is a consumer of ingress."""
    arrived: bool = False
    late_s: float = 0.0
    """How much later than usual it arrives: then its connection has been given up."""
    share: float = 1.0
    """How much of it arrives at all."""
