"""What keeps a session from beginning, beside what STOMP itself refuses (`stomp.errors`)."""

from pushcluster_contract.errors import PushClusterError


class TooManySessions(PushClusterError):
    """The user has as many sessions in the cluster as one may have: the newest is refused, the others stay."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"this user has {limit} sessions already, as many as one may have (spec.gateway.maxSessionsPerUser); "
            "close one of them, or try again later: a session that was cut off counts for up to about a minute"
        )
