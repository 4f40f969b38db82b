"""The operator's errors, by who can fix them. `pushcluster_contract.errors` has their base classes."""

from pushcluster_contract.errors import InvalidInput, PushClusterError, Unavailable


class InvalidSpec(InvalidInput):
    """The PushCluster asks for something impossible. The message is a sentence for its author."""


class Conflict(PushClusterError):
    """The object changed or vanished between the read and the write. Read it again."""


class Refused(PushClusterError):
    """The API server refuses this request as it is (forbidden, invalid). The message says why."""


class LeadershipLost(PushClusterError):
    """Another process may hold the Lease; this one must stop at once."""


__all__ = ["Conflict", "InvalidSpec", "LeadershipLost", "Refused", "Unavailable"]
