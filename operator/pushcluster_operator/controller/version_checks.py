"""Asks Kubernetes and RabbitMQ for their versions. Redis is asked by whoever connects to it."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pushcluster_contract.errors import InvalidInput, TooOld
from pushcluster_contract.required_versions import KUBERNETES
from pushcluster_operator.errors import Refused, Unavailable
from pushcluster_operator.kube.client import KubeClient
from pushcluster_operator.status.pods import Trouble
from pushcluster_operator.status.versions import describe_old_rabbitmq
from pushcluster_runtime.amqp import AmqpConnection

KUBERNETES_EVERY_S: Final = 60.0
RABBITMQ_TIMEOUT_S: Final = 3.0
RABBITMQ_RETRY_S: Final = 30.0
"""How long a broker that gave no answer is not asked again, because the reconcile waits for the answer."""

_log = logging.getLogger(__name__)


async def connect_to_rabbitmq(url: str) -> None:
    """Connect and close again. Raise TooOld, Unavailable or InvalidInput."""
    amqp = await AmqpConnection.connect(url, name="pushcluster-operator", timeout_s=RABBITMQ_TIMEOUT_S)
    await amqp.close()


@dataclass(slots=True)
class _Answer:
    """The last answer of one PushCluster's broker."""

    containers: frozenset[str] = frozenset()
    """The broker's containers that were ready then."""
    trouble: Trouble | None = None
    retry_at_s: float = 0.0


@dataclass(slots=True)
class VersionChecks:
    """Asks seldom: Kubernetes once a minute, and a broker again only when its containers change."""

    kube: KubeClient
    clock: Callable[[], float] = time.monotonic
    connect: Callable[[str], Awaitable[None]] = connect_to_rabbitmq
    _kubernetes: str | None = None
    _kubernetes_asked_s: float = 0.0
    _answers: dict[str, _Answer] = field(default_factory=dict)

    async def require_kubernetes(self) -> None:
        """Raise TooOld, or Unavailable if the API server does not answer."""
        if self._kubernetes is None or self.clock() - self._kubernetes_asked_s >= KUBERNETES_EVERY_S:
            try:
                self._kubernetes = await self.kube.get_version()
            except Refused as error:
                _log.warning(
                    "the operator may not read the version of Kubernetes; it goes on without the check",
                    extra={"error": str(error)},
                )
                self._kubernetes = ""
            self._kubernetes_asked_s = self.clock()
        if self._kubernetes:
            KUBERNETES.require(self._kubernetes)

    async def find_old_rabbitmq(self, uid: str, url: str | None, containers: frozenset[str]) -> Trouble | None:
        """Return what is wrong with the broker's version; `life` names the containers of it that are ready.

        Without an answer from these, what earlier ones said stands.
        """
        answer = self._answers.setdefault(uid, _Answer())
        if url is None or not containers or containers == answer.containers or self.clock() < answer.retry_at_s:
            return answer.trouble
        try:
            await self.connect(url)
        except TooOld as error:
            answer.containers, answer.trouble = containers, describe_old_rabbitmq(error)
        except (Unavailable, InvalidInput) as error:
            answer.retry_at_s = self.clock() + RABBITMQ_RETRY_S
            _log.info("RabbitMQ does not tell its version yet", extra={"error": str(error)})
        else:
            answer.containers, answer.trouble = containers, None
        return answer.trouble

    def forget(self, uid: str) -> None:
        """Forget a PushCluster that is gone."""
        self._answers.pop(uid, None)
