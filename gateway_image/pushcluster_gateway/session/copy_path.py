"""The path of one subscription's copies: the gateway's queue, or a queue of its own. Mode Session. No I/O, no clock.

    gateway's queue ──OPEN──► both ──USE──► own queue
          ▲                    ▲ │              │
          └──REREAD── DELETE ──┼─┘              │
                               └─────LEAVE──────┘

A subscription begins on its gateway's queue, which costs the broker nothing. Who wants to change the path says so, and
takes one step after the other until `next_step` returns None. The wish may change between any two steps.

No order of these steps loses a message, because what the session's entry says is only a hint to dispatchers:

- The gateway's queue reaches every subscription of the gateway at any time, whatever the entry says.
- Copies for an own queue that is not there, or not yet, are returned, and their dispatcher sends them to the gateway's
  queue.
- Copies for an own queue that is bound and not yet consumed wait in it.
- Copies in a queue when it is deleted are lost. Their messages were appended before, so the REREAD after the DELETE
  finds them in the log.
- The two queues may overtake each other. The state machine of the subscription (`delivery.py`) reads the log when it
  sees a hole, and drops what is not newer.

The order of the steps only saves work: while it is kept, no copy is returned and none is lost.
"""

from enum import Enum, auto


class Step(Enum):
    """What to do next."""

    OPEN = auto()
    """Declare, bind and consume a queue of its own. Answer by `opened`, or by `use_gateway_queue` if there is none."""
    USE = auto()
    """Call `using`, then have dispatchers publish to the own queue."""
    LEAVE = auto()
    """Call `leaving`, then have dispatchers publish to the gateway's queue."""
    DELETE = auto()
    """Call `take_queue`, then delete that queue."""
    REREAD = auto()
    """Call `rereading`, then read the log again."""


class CopyPath:
    """What one subscription wants, and what it has."""

    __slots__ = ("_must_reread", "_wants_own", "queue", "used")

    def __init__(self) -> None:
        self.queue = ""
        """Name of the subscription's own queue, which is consumed; empty without one."""
        self.used = False
        """Whether dispatchers are to publish to the own queue, as the session's entry says or will soon say."""
        self._wants_own = False
        self._must_reread = False

    def next_step(self) -> Step | None:
        """Return the next step towards what is wanted, or None when nothing is left to do."""
        if self._must_reread:
            return Step.REREAD
        if self._wants_own:
            if not self.queue:
                return Step.OPEN
            return None if self.used else Step.USE
        if self.used:
            return Step.LEAVE
        return Step.DELETE if self.queue else None

    # Wishes

    def use_own_queue(self) -> None:
        """Want a queue of its own."""
        self._wants_own = True

    def use_gateway_queue(self) -> None:
        """Want the gateway's queue, as at the beginning."""
        self._wants_own = False

    # What has happened

    def opened(self, queue: str) -> None:
        """Note that this queue is declared, bound and consumed."""
        self.queue = queue

    def using(self) -> None:
        """Note that each write of the session's entry from now on names the own queue."""
        self.used = True

    def leaving(self) -> None:
        """Note that each write of the session's entry from now on names the gateway's queue."""
        self.used = False

    def take_queue(self) -> str:
        """Return the own queue, which the caller deletes; empty when there is none. Nobody else deletes it then."""
        queue, self.queue = self.queue, ""
        self.used = False
        self._must_reread |= bool(queue)
        return queue

    def rereading(self) -> None:
        """Note that the log is read now."""
        self._must_reread = False

    def queue_deleted(self) -> None:
        """Note that somebody else deleted the queue. A new one follows if one is still wanted."""
        self.take_queue()

    def connection_lost(self) -> bool:
        """Note that all queues are gone, and return whether steps are left. The caller rereads all logs anyway."""
        self.take_queue()
        self._must_reread = False
        return self._wants_own
