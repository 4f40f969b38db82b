"""Why a session cannot begin, besides violations of STOMP (`stomp.errors`)."""

from pushcluster_contract.errors import PushClusterError


class TooManySessions(PushClusterError):
    """The user has reached the session limit of the cluster. The newest session is refused, the others stay."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"this user already has {limit} sessions, the maximum (spec.gateway.maxSessionsPerUser); "
            "close one of them, or try again later: a session that was cut off counts for up to about a minute"
        )
