"""Events of a PushCluster. `kubectl describe` shows them."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pushcluster_operator.errors import Conflict, Refused, Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.manifest import Manifest
from pushcluster_operator.spec.pushcluster import API_VERSION, KIND, ClusterIdentity

BURST: Final = 20
"""How many Events of one PushCluster are written without a pause."""
REFILL_S: Final = 10.0
"""How often one more Event is allowed after a burst: a crash loop must not fill etcd."""
_MAX_MESSAGE_CHARS: Final = 1_000

_log = logging.getLogger(__name__)


def build_event(
    identity: ClusterIdentity, type_: str, reason: str, message: str, when: datetime, suffix: str
) -> Manifest:
    """Return the Event. `type_` is Normal or Warning; `suffix` makes its name unique."""
    time_ = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{identity.name}.{suffix}", "namespace": identity.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": identity.namespace,
            "name": identity.name,
            "uid": identity.uid,
        },
        "type": type_,
        "reason": reason,
        "message": message[:_MAX_MESSAGE_CHARS],
        "firstTimestamp": time_,
        "lastTimestamp": time_,
        "count": 1,
        "source": {"component": "pushcluster-operator"},
        "reportingComponent": "pushcluster-operator",
        "reportingInstance": "",
    }


@dataclass(slots=True)
class EventRecorder:
    """Writes Events, and the same text to the log. An Event that cannot be written is no error."""

    kube: KubeClient
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    _budgets: dict[str, tuple[float, float]] = field(default_factory=dict)
    """UID → how many Events are left, and when that number was computed."""

    async def record(self, identity: ClusterIdentity, reason: str, message: str, *, warning: bool = False) -> None:
        """Write one Event, unless this PushCluster has had too many lately."""
        _log.log(
            logging.WARNING if warning else logging.INFO,
            message,
            extra={"namespace": identity.namespace, "pushcluster": identity.name, "reason": reason},
        )
        if not self._take(identity.uid):
            return
        event = build_event(
            identity, "Warning" if warning else "Normal", reason, message, self.now(), f"{time.time_ns():x}"
        )
        try:
            await self.kube.create(event)
        except (Conflict, Refused, Unavailable) as error:
            _log.warning("an Event could not be written", extra={"reason": reason, "error": str(error)})

    def forget(self, uid: str) -> None:
        """Forget a PushCluster that is gone."""
        self._budgets.pop(uid, None)

    def _take(self, uid: str) -> bool:
        now = self.clock()
        left, since = self._budgets.get(uid, (float(BURST), now))
        left = min(float(BURST), left + (now - since) / REFILL_S)
        allowed = left >= 1
        self._budgets[uid] = (left - 1 if allowed else left, now)
        return allowed
