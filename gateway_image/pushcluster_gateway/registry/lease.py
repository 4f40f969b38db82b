"""When a gateway must write everything back (step G1). No I/O, no clock."""

from dataclasses import dataclass, replace
from enum import StrEnum

from pushcluster_contract.limits import LEASE_MS


class ResyncCause(StrEnum):
    """Why a resync is needed: a label in metrics and logs."""

    LEASE_LOST = "lease_lost"
    """It was removed, or ran out long ago: somebody took this gateway for dead and may have removed its sessions."""
    REDIS_RESTARTED = "redis_restarted"
    """Another process answers: what it did not have on disk is gone."""
    LEASE_UNCERTAIN = "lease_uncertain"
    """A renewal got no answer: it may have made a lease anew that was missing, and nobody was told."""
    AMQP_RECONNECTED = "amqp_reconnected"
    """Exclusive queues went with the connection, and the copies in them."""
    COPIES_LEFT_OUT = "copies_left_out"
    """A dispatcher has told that the broker took no copies for a while."""


@dataclass(frozen=True, slots=True)
class OwnLease:
    """What is known of the own lease."""

    renewed_s: float | None = None
    """When the last renewal that succeeded was sent, by the local monotonic clock; the lease is younger than that."""
    run_id: str = ""
    """The Redis process that answered it."""
    uncertain: bool = False
    """Whether a renewal since then got no answer."""
    redis_answering_since_s: float = 0.0
    """From when on this Redis process has renewed it before it ran out."""

    def held(self, now_s: float) -> bool:
        """Whether the lease is certainly still there, unless somebody removed it."""
        return self.renewed_s is not None and (now_s - self.renewed_s) * 1_000 < LEASE_MS

    def certain(self, now_s: float) -> bool:
        """Whether it is held and Redis has answered the last renewal: a session can be registered under it."""
        return self.held(now_s) and not self.uncertain

    def redis_answering_for_s(self, now_s: float) -> float:
        """Return for how long the same Redis has answered well enough for anybody to keep a lease."""
        return now_s - self.redis_answering_since_s if self.held(now_s) else 0.0

    def failed(self) -> "OwnLease":
        """Note a renewal without an answer."""
        return replace(self, uncertain=True)

    def renewed(self, *, existed: bool, run_id: str, sent_s: float) -> "tuple[OwnLease, ResyncCause | None]":
        """Apply a renewal's answer: the lease as it is now, and why everything must be written back, if it must."""
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
