"""Whether a dispatcher is ready. Pure.

A pod becomes ready once it can do everything, so that a roll-out of a broken version stops. From then on, it stays
ready while callers can use it. To publish, the HTTP API needs only RabbitMQ, and while Redis is down the ingress queues
keep the messages. If the pod left its Service then, producers would get refused connections instead of a 202.

A partition that RabbitMQ refuses for long keeps a new dispatcher unready. A dispatcher that has worked before stays
ready, because its other partitions work. A metric and the reason then name the refused partition.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Readiness:
    """Decides from troubles in words. An empty text means that there is no trouble."""

    _has_worked: bool = False

    def judge(self, *, dispatch: str, refusal: str, api: str | None, stopping: bool) -> tuple[bool, str]:
        """Return the answer of /readyz and its reason.

        Each argument is a trouble in words: `dispatch` keeps messages from being dispatched, `refusal` is the part of
        that which will hardly pass by itself, and `api` keeps the API from publishing. None for `api`: there is no API.
        """
        if stopping:
            return False, "stopping"
        dispatch = refusal or dispatch
        if not dispatch and not api:
            self._has_worked = True
            return True, "ready"
        if self._has_worked and api == "":
            return True, f"ready: the API takes messages, and they wait in ingress: {dispatch}"
        return False, dispatch or api or ""
