"""Run a dispatcher and record how old messages are when it consumes them: `python -m benchmarks.arrivals FILE MODULE`.

Nobody can know that in production, because AMQP has no time that is exact enough. Here messages have stamps in their
bodies (`stomp_clients.py`), and all processes share one clock. The signals are those of `sampled.py`; FILE gets the
ages in seconds, as a JSON list. Any other program runs as it is.
"""

import runpy
import sys
import time
from pathlib import Path

from benchmarks.sampled import dump_on_signals
from benchmarks.stomp_clients import split_stamps
from pushcluster_dispatcher.ingress.partition import PartitionSession
from pushcluster_runtime.amqp import Delivery


class Arrivals:
    """Notes the ages of all messages while it is on."""

    def __init__(self) -> None:
        self.counts: list[float] = []
        """Seconds from publish to arrival."""
        self._on = False

    def start(self) -> None:
        """Begin to note."""
        self._on = True

    def stop(self) -> None:
        """Note nothing more."""
        self._on = False

    def note(self, body: bytes) -> None:
        """Take the body of a message that has just arrived."""
        if self._on:
            now = time.monotonic()
            self.counts += [now - stamp for stamp in split_stamps(body)[0]]


def watch(arrivals: Arrivals) -> None:
    """Have every message noted that a partition gets."""
    receive = PartitionSession.receive

    def noting(session: PartitionSession, delivery: Delivery) -> None:
        arrivals.note(delivery.body)
        receive(session, delivery)

    setattr(PartitionSession, "receive", noting)  # noqa: B010 - a method cannot be assigned, says the type checker


if __name__ == "__main__":
    noted = Arrivals()
    dump_on_signals(noted, Path(sys.argv[1]))
    watch(noted)
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
