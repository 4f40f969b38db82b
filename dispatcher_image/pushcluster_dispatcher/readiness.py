"""Whether a dispatcher is ready. Pure.

A pod becomes ready once it can do everything, so that a roll-out of one that cannot stops there. From then on it stays
ready for as long as callers can use it: the HTTP API needs RabbitMQ alone for a publish, which ingress keeps safe while
Redis is down. Were it taken out of its Service then, producers would meet refused connections instead of a 202.

A partition that RabbitMQ does not let it consume for long keeps a new dispatcher unready, and does not take one that
has worked from its callers: the other partitions work, and a metric and the reason tell of this one.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Readiness:
    """Judges troubles in words; an empty one is none."""

    _has_worked: bool = False

    def judge(self, *, path: str, refusal: str, api: str | None, stopping: bool) -> tuple[bool, str]:
        """Return the answer of /readyz and its reason.

        `path` is what keeps messages from being dispatched, `refusal` which part of that will hardly mend itself, `api`
        what keeps the API from publishing, None without API.
        """
        if stopping:
            return False, "stopping"
        path = refusal or path
        if not path and not api:
            self._has_worked = True
            return True, "ready"
        if self._has_worked and api == "":
            return True, f"ready: the API takes messages, and they wait in ingress: {path}"
        return False, path or api or ""
