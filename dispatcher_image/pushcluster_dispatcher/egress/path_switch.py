"""Which path copies take in mode Session: queues of subscriptions, or the queue of their gateway. No I/O, no clock.

    own queues ──more than JOIN_ABOVE in one window──► the gateway's queue, joined
        ▲                                                          │
        └──for STAY_S never more than PART_AT in one window────────┘

A copy to a subscription's own queue is an AMQP message of its own. Copies to the gateway's queue are joined, and that
queue reaches all subscriptions too. So a single push goes to its subscription's queue, and a flood to the gateway's.
Each dispatcher decides for itself: it alone sends the copies of a partition.

After a change, a copy on the new path could overtake one on the old path. Its subscription would then see a hole, read
the log, and miss nothing. So that a change causes no such reads, the first copies on the gateway's queue wait until
RabbitMQ has answered for all that are in flight to own queues (`must_wait`). On the way back nothing has to wait: the
path changes at a moment when nothing is in flight to the gateway's queue.
"""

from typing import Final

WINDOW_S: Final = 0.1
"""Copies are counted in windows of this length. A window begins with the first copy after the last one."""
JOIN_ABOVE: Final = 100
"""Copies for one gateway in one window. With one more, they are joined."""
PART_AT: Final = 50
"""With more in one window, copies stay joined."""
STAY_S: Final = 2.0
"""How long copies stay joined after the last such window, at least."""
MAX_GATEWAYS: Final = 1_024
"""How many gateways are counted, each in about 500 bytes. The one whose last window began first is forgotten first."""


class InFlight:
    """How many AMQP messages on one path the broker has not answered for."""

    __slots__ = ("messages",)

    def __init__(self) -> None:
        self.messages = 0

    def begin(self) -> None:
        """Note that a message is in flight."""
        self.messages += 1

    def end(self) -> None:
        """Note that one is no longer in flight."""
        self.messages -= 1


class GatewayPath:
    """The path of the copies for one gateway."""

    __slots__ = ("_copies", "_part_at_s", "_window_ends_s", "is_joined", "joined", "own")

    def __init__(self) -> None:
        self.is_joined = False
        """Whether copies take the gateway's queue."""
        self.own = InFlight()
        """To own queues."""
        self.joined = InFlight()
        """To the gateway's queue."""
        self._copies = 0
        self._window_ends_s = float("-inf")
        self._part_at_s = 0.0

    @property
    def must_wait(self) -> bool:
        """Whether the next copy has to wait for those that are in flight to own queues."""
        return self.is_joined and self.own.messages > 0

    def is_over(self, now_s: float) -> bool:
        """Return whether the window is over."""
        return now_s >= self._window_ends_s

    def count(self, now_s: float) -> None:
        """Count a copy that has an own queue to go to. The path may change with it."""
        if self.is_over(now_s):
            self._window_ends_s, self._copies = now_s + WINDOW_S, 0
        self._copies += 1
        if self._copies > (PART_AT if self.is_joined else JOIN_ABOVE):
            self.is_joined = True
            self._part_at_s = now_s + STAY_S
        elif self.is_joined and now_s >= self._part_at_s and not self.joined.messages:
            self.is_joined = False


class PathSwitch:
    """The paths of the copies for all gateways."""

    def __init__(self) -> None:
        self._paths: dict[str, GatewayPath] = {}
        """By the name of the gateway's queue. The one whose window began last is at the end."""

    def count(self, gateway_queue: str, now_s: float) -> GatewayPath:
        """Count a copy for this gateway that has an own queue to go to. Return its path."""
        path = self._paths.get(gateway_queue)
        if path is None or path.is_over(now_s):
            self._paths.pop(gateway_queue, None)
            path = self._paths[gateway_queue] = path or GatewayPath()
            if len(self._paths) > MAX_GATEWAYS:
                del self._paths[next(iter(self._paths))]
        path.count(now_s)
        return path
