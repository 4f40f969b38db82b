"""The canary: a ConfigMap that the operator writes and whose event must come back through the watches.

A watch that is connected but delivers nothing looks like a quiet cluster. Only this event tells the two apart.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube import labels
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.manifest import Manifest

NAME: Final = "pushcluster-operator-canary"
WRITE_EVERY_S: Final = 20.0
WATCHES_DEAD_AFTER_S: Final = 120.0
"""The watches are dead if the canary's write succeeded and no event of it has come for this long."""
_BEAT: Final = "pushcluster.dev/beat"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Canary:
    """Writes the ConfigMap, and knows whether its events come back."""

    kube: KubeClient
    namespace: str
    clock: Callable[[], float] = time.monotonic
    _unanswered_since: float | None = None
    """When the oldest write without an event was made. None: an event has come for every write."""

    async def run(self) -> None:
        """Write a beat every WRITE_EVERY_S until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(WRITE_EVERY_S)

    async def beat(self) -> None:
        """Write the ConfigMap once. A write that fails says nothing about the watches and does not count."""
        try:
            await self.kube.apply(self._build(), None)
        except (Conflict, Refused, Unavailable) as error:
            _log.warning("the canary could not be written; the operator tries again", extra={"error": str(error)})
            return
        if self._unanswered_since is None:
            self._unanswered_since = self.clock()

    def receive(self, namespace: str, name: str) -> bool:
        """Take an event of a ConfigMap. Return whether it was the canary's."""
        if (namespace, name) != (self.namespace, NAME):
            return False
        self._unanswered_since = None
        return True

    def watches_work(self) -> bool:
        """Return whether the watches still bring events."""
        return self._unanswered_since is None or self.clock() - self._unanswered_since < WATCHES_DEAD_AFTER_S

    def _build(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": self.namespace,
                # The watches select by this label. Its value is empty, as no PushCluster's name can be.
                "labels": {labels.CLUSTER: "", "app.kubernetes.io/part-of": "pushcluster"},
                "annotations": {_BEAT: f"{self.clock():.3f}"},
            },
        }
