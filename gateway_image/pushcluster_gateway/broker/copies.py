"""Reads the copies that dispatchers publish, so that messages need not be read from the log. No I/O."""

import logging
from collections.abc import Callable

from pushcluster_contract.batch import CopySpan, parse_batch, parse_copy
from pushcluster_contract.errors import InvalidInput
from pushcluster_gateway.broker.copy_hops import FollowedCopy
from pushcluster_gateway.metrics import Metrics
from pushcluster_gateway.session.hub import Hub
from pushcluster_gateway.session.subscription import Subscription

_log = logging.getLogger(__name__)


class CopyReader:
    """Reads batches and passes each copy to its subscriptions. Unreadable ones are counted; the log has them."""

    def __init__(self, hub: Hub, metrics: Metrics, *, on_left_out: Callable[[], None]) -> None:
        """`on_left_out` is called when a dispatcher reports that it left copies out."""
        self._hub = hub
        self._metrics = metrics
        self._on_left_out = on_left_out

    def read_gateway_batch(self, batch: bytes, followed: FollowedCopy | None = None) -> None:
        """Take a batch from the gateway's own queue. Each copy is for every subscription with its address."""
        copies = self._parse(batch)
        if copies is None:
            return
        if not copies:
            self._on_left_out()
        addressed, deliver = self._hub.addressed, self._deliver
        if followed is not None:
            followed.begin(copies, addressed)
        for address, span in copies:
            deliver(batch, span, addressed(address))
        if followed is not None:
            followed.end()

    def read_subscription_batch(
        self, subscription: Subscription, batch: bytes, followed: FollowedCopy | None = None
    ) -> None:
        """Take a batch from a subscription's queue.

        `/queue/<name>` and `/topic/<name>` share a routing key. So this queue also gets the copies for subscriptions of
        the same session that have the same key and no queue.
        """
        copies = self._parse(batch) or []
        if followed is not None:
            followed.begin(copies, lambda address: (subscription,) if address == subscription.address else ())
        for address, span in copies:
            held = self._hub.addressed(address)
            if len(held) != 1 or held[0] is not subscription:
                held = tuple(
                    each
                    for each in held
                    if each is subscription or (each.client is subscription.client and not each.path.queue)
                )
            self._deliver(batch, span, held)
        if followed is not None:
            followed.end()

    def _parse(self, batch: bytes) -> list[tuple[bytes, CopySpan]] | None:
        try:
            return parse_batch(batch)
        except InvalidInput as error:
            self._metrics.batches_refused += 1
            _log.warning("a batch of copies cannot be read", extra={"cause": str(error)})
            return None

    def _deliver(self, batch: bytes, span: CopySpan, subscriptions: tuple[Subscription, ...]) -> None:
        if not subscriptions:
            self._metrics.copies_dropped += 1
            return
        try:
            entry = parse_copy(batch, span)
        except InvalidInput as error:
            self._metrics.batches_refused += 1
            _log.warning("a copy cannot be read", extra={"cause": str(error)})
            return
        for subscription in subscriptions:
            subscription.copy_arrived(entry)
