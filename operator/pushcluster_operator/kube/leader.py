"""Leader election by Lease. A process holds the Lease before it watches or writes anything.

The rules are client-go's. A candidate takes a Lease that is free, that is its own, or that has not changed for its
duration by the candidate's own steady clock. It also takes one that a former process of its own pod holds: kubelet
starts a container anew only when the former one has ended. A leader that could not renew for RENEW_DEADLINE_S stops
before another process may take over.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from pushcluster_operator.errors import Conflict, LeadershipLost, Refused, Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.kube.manifest import Manifest

NAME: Final = "pushcluster-operator"
DURATION_S: Final = 15
RENEW_EVERY_S: Final = 3.0
RENEW_DEADLINE_S: Final = 10.0
RETRY_EVERY_S: Final = 2.0
_SEPARATOR: Final = "_"
"""No pod's name has it."""

_log = logging.getLogger(__name__)


class Claim(Enum):
    """What a candidate does about the Lease as it stands."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


def plan_claim(lease: Mapping[str, Any] | None, identity: str, unchanged_s: float, *, leads: bool = False) -> Claim:
    """Return what to do. `unchanged_s` is how long this candidate has seen the Lease exactly as it is now.

    Who `leads` has held the Lease. Another holder has taken it since, even if it says that it is of the same pod.
    """
    if lease is None:
        return Claim.CREATE
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder == identity:
        return Claim.RENEW
    if (
        not holder
        or (not leads and _is_former_self(holder, identity))
        or unchanged_s >= spec.get("leaseDurationSeconds", DURATION_S)
    ):
        return Claim.TAKE
    return Claim.WAIT


def build_identity(pod_name: str, unique: str) -> str:
    """Return the identity of one process of a pod."""
    return f"{pod_name}{_SEPARATOR}{unique}"


def _is_former_self(holder: str, identity: str) -> bool:
    pod_name, separator, _ = identity.rpartition(_SEPARATOR)
    return bool(separator) and holder.rpartition(_SEPARATOR)[:2] == (pod_name, separator)


def build_lease(
    lease: Mapping[str, Any] | None, namespace: str, identity: str, claim: Claim, when: datetime
) -> Manifest:
    """Return the Lease as `identity` writes it. An existing one keeps its resourceVersion, which fences the write."""
    spec = dict((lease or {}).get("spec") or {})
    time_ = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if claim is not Claim.RENEW:
        spec["acquireTime"] = time_
        spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
    spec |= {"holderIdentity": identity, "leaseDurationSeconds": DURATION_S, "renewTime": time_}
    metadata: Manifest = {"name": NAME, "namespace": namespace}
    if lease is not None:
        metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


@dataclass(slots=True)
class Leader:
    """Takes the Lease, renews it, and gives it back."""

    kube: KubeClient
    namespace: str
    identity: str
    """Unique to this process (`build_identity`): what another one holds is taken, and counts as a change of hands."""
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _seen: str = ""
    _seen_s: float = 0.0
    _renewed_s: float = field(default=0.0)

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        waiting_for = ""
        while True:
            try:
                holder = await self._try_claim()
            except (Conflict, Refused, Unavailable) as error:
                _log.warning("the Lease cannot be taken yet; this process keeps trying", extra={"error": str(error)})
                holder = ""
            else:
                if holder == self.identity:
                    _log.info("this process leads", extra={"identity": self.identity})
                    return
                if holder != waiting_for:
                    _log.info("another process leads; standing by", extra={"holder": holder})
                    waiting_for = holder
            await asyncio.sleep(RETRY_EVERY_S)

    async def keep(self) -> None:
        """Renew until cancelled. Raise LeadershipLost when another process may soon hold the Lease."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                async with asyncio.timeout(max(0.0, self._renewed_s + RENEW_DEADLINE_S - self.clock())):
                    holder = await self._try_claim(leads=True)
            except (Conflict, Refused, Unavailable, TimeoutError) as error:
                _log.warning("the Lease was not renewed; this process tries again", extra={"error": str(error)})
                if self.clock() - self._renewed_s >= RENEW_DEADLINE_S:
                    raise LeadershipLost("the Lease could not be renewed in time") from error
            else:
                if holder != self.identity:
                    raise LeadershipLost(f"{holder} holds the Lease")

    async def release(self) -> None:
        """Give the Lease back, so that the next process need not wait for it to expire."""
        try:
            lease = await self.kube.get("Lease", self.namespace, NAME)
            if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                released = build_lease(lease, self.namespace, "", Claim.RENEW, self.now())
                released["spec"]["leaseDurationSeconds"] = 1
                await self.kube.replace(released)
        except (Conflict, Refused, Unavailable) as error:
            _log.info("the Lease was not given back; it expires by itself", extra={"error": str(error)})

    async def _try_claim(self, *, leads: bool = False) -> str:
        """Claim or renew the Lease if that is allowed. Return who holds it now."""
        started = self.clock()
        lease = await self.kube.get("Lease", self.namespace, NAME)
        version = "" if lease is None else lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._seen_s = version, started
        claim = plan_claim(lease, self.identity, started - self._seen_s, leads=leads)
        if claim is Claim.WAIT:
            return str((lease or {})["spec"]["holderIdentity"])
        written = build_lease(lease, self.namespace, self.identity, claim, self.now())
        await (self.kube.create(written) if claim is Claim.CREATE else self.kube.replace(written))
        # From before the request: other candidates count from when they see the new Lease, which cannot be earlier.
        self._renewed_s = started
        return self.identity
