"""The product, broken on purpose where it must not believe a client, or the network to it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.session.subscription import Subscription


def _count_all_that_was_written() -> AbstractContextManager[Any]:
    """Once the connection has died: what its kernel had taken and its client's TCP never acknowledged, too."""
    original = Subscription.cursor_to_flush

    def cursor_to_flush(self: Subscription) -> tuple[StreamId, StreamId] | None:
        if self.client.ended:
            self.progress.accept(self.client.socket.outbox.written_bytes)
        return original(self)

    return patch.object(Subscription, "cursor_to_flush", cursor_to_flush)


CLIENT_MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "all that was written counts as delivered when the connection dies": _count_all_that_was_written,
}
