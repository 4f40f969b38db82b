"""The product, broken on purpose where it must not believe a client, or the network to it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from pushcluster_contract.ids import StreamId
from pushcluster_gateway.session.delivery import DeliveryMachine, LogState
from pushcluster_gateway.session.subscription import Subscription


def _count_all_that_was_written() -> AbstractContextManager[Any]:
    """Once the connection has died: what its kernel had taken and its client's TCP never acknowledged, too."""
    original = Subscription.cursor_to_flush

    def cursor_to_flush(self: Subscription) -> tuple[StreamId, StreamId] | None:
        if self.client.ended:
            self.progress.accept(self.client.socket.outbox.written_bytes)
        return original(self)

    return patch.object(Subscription, "cursor_to_flush", cursor_to_flush)


def _begin_where_the_client_says(believed: Callable[[LogState, StreamId], bool]) -> AbstractContextManager[Any]:
    """What version 0.2 did: the position, and with it the cursor, begin at the id, or at the newest entry before it."""
    original = DeliveryMachine.registered

    def registered(self: DeliveryMachine, log: LogState) -> list[Any]:
        given = self._resume_after
        if given is not None and believed(log, given):
            log = replace(log, cursor=max(log.cursor, min(given, log.newest)))
        return original(self, log)

    return patch.object(DeliveryMachine, "registered", registered)


def _believe_every_id() -> AbstractContextManager[Any]:
    return patch.object(LogState, "follows", lambda self, given: True)


CLIENT_MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "all that was written counts as delivered when the connection dies": _count_all_that_was_written,
    "a subscription begins at an id from the future": partial(
        _begin_where_the_client_says, lambda log, given: given > log.newest
    ),
    "a subscription begins at any id of its log": partial(_begin_where_the_client_says, LogState.follows),
    "every id is believed to be of this log": _believe_every_id,
}
