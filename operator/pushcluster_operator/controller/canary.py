"""The canary: a ConfigMap that the operator writes and whose event must come back through the watches.

A watch that is connected but says nothing more looks like a quiet cluster. This is the only proof that it is not.
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
DEAF_AFTER_S: Final = 120.0
"""No event of the canary for so long, while writes went well: the watches are dead."""
_BEAT: Final = "pushcluster.dev/beat"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Canary:
    """Writes, listens, and knows whether it hears itself."""

    kube: KubeClient
    namespace: str
    clock: Callable[[], float] = time.monotonic
    _unheard_since: float | None = None
    """When the oldest beat was written of which nothing has been heard; None: all was heard."""

    async def run(self) -> None:
        """Write a beat every WRITE_EVERY_S until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(WRITE_EVERY_S)

    async def beat(self) -> None:
        """Write one beat. A write that fails proves nothing about the watches and is not held against them."""
        try:
            await self.kube.apply(self._build(), None)
        except (Conflict, Refused, Unavailable) as error:
            _log.warning("the canary could not be written", extra={"error": str(error)})
            return
        if self._unheard_since is None:
            self._unheard_since = self.clock()

    def hear(self, namespace: str, name: str) -> bool:
        """Take an event of a ConfigMap; returns whether it was the canary's."""
        if (namespace, name) != (self.namespace, NAME):
            return False
        self._unheard_since = None
        return True

    def is_heard(self) -> bool:
        """Return whether the watches still bring events."""
        return self._unheard_since is None or self.clock() - self._unheard_since < DEAF_AFTER_S

    def _build(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": self.namespace,
                # The watches select by this label; no PushCluster can have an empty name.
                "labels": {labels.CLUSTER: "", "app.kubernetes.io/part-of": "pushcluster"},
                "annotations": {_BEAT: f"{self.clock():.3f}"},
            },
        }
