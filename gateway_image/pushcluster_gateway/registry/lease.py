"""Decides from the answers to lease renewals when a gateway must resync. No I/O, no clock."""

from dataclasses import dataclass, replace
from enum import StrEnum

from pushcluster_contract.limits import LEASE_MS


class ResyncCause(StrEnum):
    """Why a resync is needed. The value is a label in metrics and logs."""

    LEASE_LOST = "lease_lost"
    """The lease was removed or ran out long ago. So this gateway counted as lost, and its sessions may be removed."""
    REDIS_RESTARTED = "redis_restarted"
    """Another Redis process answers. What the former one had not written to disk is lost."""
    LEASE_UNCERTAIN = "lease_uncertain"
    """A renewal got no answer. It may have created a missing lease again, without this gateway learning of it."""
    AMQP_RECONNECTED = "amqp_reconnected"
    """The exclusive queues were lost with the connection, together with the copies in them."""
    COPIES_LEFT_OUT = "copies_left_out"
    """A dispatcher reported that it left copies out while the broker did not accept any."""


@dataclass(frozen=True, slots=True)
class OwnLease:
    """What this gateway knows about its own lease."""

    renewed_s: float | None = None
    """When the last successful renewal was sent, by the local monotonic clock. The lease began no earlier than this."""
    run_id: str = ""
    """The Redis process that answered this renewal."""
    uncertain: bool = False
    """Whether a later renewal got no answer."""
    redis_answering_since_s: float = 0.0
    """Since when this Redis process has answered every renewal before the lease ran out."""

    def held(self, now_s: float) -> bool:
        """Return whether the lease certainly still exists, unless somebody removed it."""
        return self.renewed_s is not None and (now_s - self.renewed_s) * 1_000 < LEASE_MS

    def certain(self, now_s: float) -> bool:
        """Return whether the lease is held and Redis answered the last renewal, so that sessions can be registered."""
        return self.held(now_s) and not self.uncertain

    def lapsed(self, now_s: float) -> bool:
        """Return whether renewals got no answer until the lease was over. A frozen process alone does not count."""
        return self.renewed_s is not None and self.uncertain and not self.held(now_s)

    def redis_answering_for_s(self, now_s: float) -> float:
        """Return for how long the same Redis has been answering, so that any gateway could renew its lease."""
        return now_s - self.redis_answering_since_s if self.held(now_s) else 0.0

    def failed(self) -> "OwnLease":
        """Return the state after a renewal without an answer."""
        return replace(self, uncertain=True)

    def renewed(self, *, existed: bool, run_id: str, sent_s: float) -> "tuple[OwnLease, ResyncCause | None]":
        """Return the state after the answer to a renewal, and the cause of a resync or None."""
        cause: ResyncCause | None = None
        if self.renewed_s is not None:
            if not existed:
                cause = ResyncCause.LEASE_LOST
            elif run_id != self.run_id:
                cause = ResyncCause.REDIS_RESTARTED
            elif self.uncertain:
                cause = ResyncCause.LEASE_UNCERTAIN
        steady = self.held(sent_s) and existed and run_id == self.run_id
        redis_answering_since_s = self.redis_answering_since_s if steady else sent_s
        return OwnLease(renewed_s=sent_s, run_id=run_id, redis_answering_since_s=redis_answering_since_s), cause
