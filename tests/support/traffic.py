"""A back end that publishes without pause, through every fault, and knows what was confirmed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pika
import pika.exceptions

from pushcluster_contract import headers, topology

PAUSE_S: Final = 0.002
"""Between two messages: traffic that a fault hits in the middle, not a load test."""
RETRY_S: Final = 0.2
END_WITHIN_S: Final = 60.0


class Traffic:
    """Publishes `0`, `1`, `2`, … to one user over AMQP, each again until it is confirmed."""

    def __init__(self, url: str, user: str, destination: str, pause_s: float, *, ids: bool) -> None:
        self.confirmed: list[str] = []
        """Bodies in the order of their confirms, which is the order of publishing."""
        self._url = url
        self._user = user
        self._destination = destination
        self._pause_s = pause_s
        self._ids = ids
        self._stop = threading.Event()
        self._is_under_way = False
        self._thread = threading.Thread(target=self._run, name="traffic")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[str]:
        """Finish the message under way, over another connection if need be, and return all that was confirmed."""
        self._stop.set()
        self._thread.join(END_WITHIN_S)
        assert not self._thread.is_alive(), f"the last message was not confirmed within {END_WITHIN_S} s"
        return self.confirmed

    def _run(self) -> None:
        while self._goes_on():
            try:
                connection = pika.BlockingConnection(pika.URLParameters(self._url))
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(RETRY_S)
                continue
            try:
                self._publish(connection)
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(RETRY_S)

    def _goes_on(self) -> bool:
        """Tell whether anything is to be published: what has no confirm may be in the log, so it needs one."""
        return self._is_under_way or not self._stop.is_set()

    def _publish(self, connection: pika.BlockingConnection) -> None:
        channel = connection.channel()
        channel.confirm_delivery()
        while self._goes_on():
            body = str(len(self.confirmed))
            properties = pika.BasicProperties(
                delivery_mode=pika.DeliveryMode.Persistent,
                # A message whose confirm was lost is published again: by its id it is known.
                message_id=f"{self._user}-{body}" if self._ids else None,
                headers={headers.DESTINATION: self._destination},
            )
            self._is_under_way = True
            channel.basic_publish(topology.PUSH_EXCHANGE, self._user, body.encode(), properties, mandatory=True)
            self.confirmed.append(body)
            self._is_under_way = False
            self._stop.wait(self._pause_s)


@contextmanager
def traffic(
    url: str, user: str, destination: str = "/queue/demo", *, pause_s: float = PAUSE_S, ids: bool = True
) -> Iterator[Traffic]:
    """Publish inside the block; `stop` it there to learn what has to arrive.

    Without `ids`, what is published again after a lost confirm may arrive twice: do it where the broker stands.
    """
    running = Traffic(url, user, destination, pause_s, ids=ids)
    running.start()
    try:
        yield running
    finally:
        running.stop()
