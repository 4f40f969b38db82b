"""What can go wrong, by who can mend it; see `pushcluster_contract.errors` for the tree above."""

from pushcluster_contract.errors import InvalidInput, PushClusterError, Unavailable


class InvalidSpec(InvalidInput):
    """The PushCluster asks for something that cannot be; the message is a sentence for its author."""


class Conflict(PushClusterError):
    """The object changed or vanished between the look at it and the write; look again."""


class Refused(PushClusterError):
    """The API server will not accept this request as it is (forbidden, invalid); the message says why."""


class LeadershipLost(PushClusterError):
    """Another process may hold the Lease; this one must stop at once."""


__all__ = ["Conflict", "InvalidSpec", "LeadershipLost", "Refused", "Unavailable"]
