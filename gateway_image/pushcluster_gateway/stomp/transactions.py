"""Transactions: ACK and NACK frames that take effect together at COMMIT."""

from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import InvalidHeader, LimitExceeded
from pushcluster_gateway.stomp.requests import Acknowledge


class Transactions:
    """The open transactions of one session."""

    __slots__ = ("_limits", "_open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, list[Acknowledge]] = {}

    def begin(self, name: str) -> None:
        """Open a transaction. Raise LimitExceeded, and InvalidHeader when it is already open."""
        if name in self._open:
            raise InvalidHeader("BEGIN", "transaction", name, "this transaction has already begun")
        if len(self._open) >= self._limits.max_transactions:
            raise LimitExceeded("open transactions", self._limits.max_transactions)
        self._open[name] = []

    def add(self, name: str, acknowledge: Acknowledge, command: str) -> None:
        """Keep a frame for COMMIT. Raise LimitExceeded, and InvalidHeader when the transaction is not open."""
        if sum(map(len, self._open.values())) >= self._limits.max_transaction_frames:
            raise LimitExceeded("frames in open transactions", self._limits.max_transaction_frames)
        try:
            self._open[name].append(acknowledge)
        except KeyError:
            raise InvalidHeader(command, "transaction", name, "no transaction with this name is open") from None

    def close(self, name: str, command: str) -> list[Acknowledge]:
        """Close a transaction and return its frames. Raise InvalidHeader when it is not open."""
        try:
            return self._open.pop(name)
        except KeyError:
            raise InvalidHeader(command, "transaction", name, "no transaction with this name is open") from None
