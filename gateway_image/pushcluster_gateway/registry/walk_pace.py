"""How long one round of the walk over all sessions takes. Pure."""

from typing import Final

FAST_ROUND_S: Final = 5.0
"""While no copies come, each log is read so often, unless there are too many sessions for that."""
FAST_READS_PER_S: Final = 5_000
"""Sessions that all gateways together then read in a second, so that Redis has time left for what it is for."""


def plan_round_s(usual_s: float, *, sessions: int, gateways: int, copies_come: bool) -> float:
    """Return the seconds for one round over this gateway's `sessions`. `gateways` is how many there are."""
    if copies_come:
        return usual_s
    return min(usual_s, max(FAST_ROUND_S, sessions * gateways / FAST_READS_PER_S))
