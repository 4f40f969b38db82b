"""Whether a gateway is ready. Pure.

A pod becomes ready once it has reached everything that clients need, so that a roll-out of a broken version stops.
From then on it stays ready until it drains, whatever the stores do. They are usually away for all gateways at once. If
all of them left the Service, clients would get refused connections. While they stay, a client without Redis is told
when to come back (1013), and one without RabbitMQ gets what its log has.

Keys are another matter. A gateway without any key turns every client away, and only a person can mend that.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Readiness:
    """Decides from troubles in words. An empty text means that there is no trouble."""

    _has_worked: bool = False

    def judge(self, *, draining: bool, redis: str, rabbitmq: str, keys: str) -> tuple[bool, str]:
        """Return the answer of /readyz and its reason."""
        if draining:
            return False, "draining"
        if keys:
            return False, f"no keys to verify tokens: {keys}"
        troubles = "; ".join(
            f"{what}: {why}" for what, why in (("no lease", redis), ("no connection to RabbitMQ", rabbitmq)) if why
        )
        if not troubles:
            self._has_worked = True
            return True, "ready"
        if not self._has_worked:
            return False, troubles
        effect = "clients are told to come back" if redis else "clients get what their logs have, later than usual"
        return True, f"ready, but {effect}: {troubles}"
