"""Who is asked for a version, how often, and what stands while nobody answers."""

from dataclasses import dataclass, field

import pytest

from pushcluster_contract.errors import InvalidInput, TooOld, Unavailable
from pushcluster_operator.controller.version_checks import KUBERNETES_EVERY_S, RABBITMQ_RETRY_S, VersionChecks
from pushcluster_operator.errors import Refused
from pushcluster_operator.status.pods import Trouble
from tests.unit.operator.fake_kube import FakeKube

OLD = TooOld("RabbitMQ 4.2.9 is too old: 4.3 or newer is needed")
FIRST, SECOND = frozenset({"containerd://1"}), frozenset({"containerd://2"})


@dataclass(slots=True)
class Asked:
    """A broker and an API server that note who asks."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 0.0
    answer: Exception | None = None
    connects: int = 0
    checks: VersionChecks = field(init=False)

    def __post_init__(self) -> None:
        self.checks = VersionChecks(self.kube, clock=lambda: self.seconds, connect=self.connect)

    async def connect(self, url: str) -> None:
        assert url == "amqp://"
        self.connects += 1
        if self.answer is not None:
            raise self.answer

    async def find(self, life: frozenset[str] = FIRST, uid: str = "uid") -> Trouble | None:
        return await self.checks.find_old_rabbitmq(uid, "amqp://", life)


async def test_kubernetes_is_asked_once_a_minute_and_an_upgrade_is_seen_then() -> None:
    asked = Asked()
    asked.kube.version = "v1.29.7"
    for _ in range(3):
        with pytest.raises(TooOld, match=r"Kubernetes v1\.29\.7 is too old: 1\.30 or newer is needed"):
            await asked.checks.require_kubernetes()
    assert asked.kube.calls == ["get version"]
    asked.kube.version = "v1.30.0"
    asked.seconds = KUBERNETES_EVERY_S
    await asked.checks.require_kubernetes()
    assert asked.kube.calls == ["get version"] * 2


async def test_a_version_that_the_operator_may_not_read_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> str:
        raise Refused("GET /version: 403")

    asked = Asked()
    monkeypatch.setattr(asked.kube, "get_version", refuse)
    await asked.checks.require_kubernetes()


async def test_a_broker_is_asked_once_in_the_life_of_its_containers() -> None:
    asked = Asked(answer=OLD)
    for _ in range(3):
        trouble = await asked.find()
        assert trouble is not None
        assert trouble.reason == "RabbitMQTooOld"
        assert "4.3 or newer is needed" in trouble.message
        assert "spec.rabbitmq.managed.image" in trouble.message
    assert asked.connects == 1
    asked.answer = None
    assert await asked.find(SECOND) is None
    assert asked.connects == 2


async def test_a_broker_that_is_not_ready_is_not_asked() -> None:
    asked = Asked(answer=OLD)
    assert await asked.find(frozenset()) is None
    assert await asked.checks.find_old_rabbitmq("uid", None, FIRST) is None
    assert asked.connects == 0


@pytest.mark.parametrize("error", [Unavailable("refused"), InvalidInput("no AMQP URL")])
async def test_while_a_new_broker_does_not_answer_the_last_version_counts_and_it_is_not_asked_again_at_once(
    error: Exception,
) -> None:
    asked = Asked(answer=OLD)
    before = await asked.find()
    asked.answer = error
    for _ in range(3):
        assert await asked.find(SECOND) == before
    assert asked.connects == 2
    asked.seconds, asked.answer = RABBITMQ_RETRY_S, None
    assert await asked.find(SECOND) is None
    assert asked.connects == 3


async def test_one_pushclusters_broker_says_nothing_of_anothers() -> None:
    asked = Asked(answer=OLD)
    await asked.find()
    asked.answer = None
    assert await asked.find(uid="another") is None
    assert await asked.find() is not None
    asked.checks.forget("uid")
    assert await asked.find() is None
