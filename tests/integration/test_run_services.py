"""The containers that every integration test stands on: faults keep data, and nothing outlives its owner."""

import asyncio
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.asyncio import Redis

from local_run.containers import OWNER_LABEL, RUN_LABEL, Container, remove_orphans
from local_run.docker import docker
from local_run.errors import ImageMissing
from local_run.owner import Owner
from local_run.reaper import Reaper
from local_run.stores import build_redis
from tests.support.amqp_admin import AmqpAdmin
from tests.support.containers import Services, close_amqp_connections, kill_and_start, paused
from tests.support.planes import Plane
from tests.support.waiting import eventually, eventually_sync

OWNER_PROGRAM = """
import sys
from local_run.containers import Container
from local_run.reaper import Reaper
from local_run.stores import build_redis
Container.run(build_redis("secret", max_memory="16mb"), Reaper(), sys.argv[1])
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    yield made
    made.close()


def containers_of(run_id: str) -> list[str]:
    return docker("ps", "--all", "--quiet", f"--filter=label={RUN_LABEL}={run_id}").split()


async def test_what_redis_answered_is_there_after_kill_9(services: Services, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.set("test-run-services", "kept")
    await kill_and_start(services.redis)
    async with Redis.from_url(redis_url) as redis:
        assert await redis.getdel("test-run-services") == b"kept"


async def test_a_paused_redis_answers_nothing_until_it_goes_on(services: Services, redis_url: str) -> None:
    async with Redis.from_url(redis_url, socket_timeout=30) as redis:
        await redis.ping()
        async with paused(services.redis):
            answer = asyncio.ensure_future(redis.ping())
            done, _ = await asyncio.wait([answer], timeout=0.3)
            assert not done
        assert await answer


async def test_each_test_has_an_empty_vhost_of_its_own(plane: Plane, amqp_admin: AmqpAdmin) -> None:
    assert await amqp_admin.queues(plane.vhost) == {}


async def test_queues_outlive_kill_9_of_the_broker(services: Services, plane: Plane, amqp_admin: AmqpAdmin) -> None:
    declare = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    await amqp_admin.declare_queue(plane.vhost, "kept", declare)
    await kill_and_start(services.rabbitmq)

    async def is_there() -> bool:
        try:
            return "kept" in await amqp_admin.queues(plane.vhost)
        except OSError:  # the management API may listen later than AMQP
            return False

    await eventually(is_there)
    await close_amqp_connections(services, plane.vhost)


def test_containers_are_gone_after_kill_9_of_their_owner() -> None:
    run_id = "test-killed-owner"
    command = [sys.executable, "-c", OWNER_PROGRAM, run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        assert len(containers_of(run_id)) == 1
        owner.send_signal(signal.SIGKILL)
    eventually_sync(lambda: not containers_of(run_id))


def test_a_start_removes_what_a_lost_owner_left_and_nothing_else(reaper: Reaper) -> None:
    owner = Owner.current()
    lost = Owner(owner.space, owner.pid, owner.started + 1)
    image = build_redis("secret", max_memory="16mb").image
    left = docker("create", f"--label={OWNER_LABEL}={lost}", image)
    reaper.will_remove("container", left)
    mine = Container.run(build_redis("secret", max_memory="16mb"), reaper, run_id="test-alive-owner")
    removed = remove_orphans()
    # Runs that were killed may have left others on this machine.
    assert [short for short in removed if left.startswith(short)]
    assert not [short for short in removed if mine.id.startswith(short)]
    assert mine.is_running()


def test_runs_that_start_at_once_remove_the_same_orphans_and_none_fails(reaper: Reaper) -> None:
    owner = Owner.current()
    lost = Owner(owner.space, owner.pid, owner.started + 1)
    run_id = f"test-orphans-{secrets.token_hex(4)}"
    image = build_redis("secret", max_memory="16mb").image
    labels = [f"--label={OWNER_LABEL}={lost}", f"--label={RUN_LABEL}={run_id}"]
    for _ in range(4):
        reaper.will_remove("container", docker("run", "--detach", *labels, "--entrypoint=sleep", image, "60"))
    with ThreadPoolExecutor() as runs:
        for removing in [runs.submit(remove_orphans) for _ in range(4)]:
            removing.result()
            assert not containers_of(run_id), "a run begins when they are gone"


def test_a_missing_image_is_a_sentence_that_says_what_to_do(reaper: Reaper) -> None:
    spec = build_redis("secret", max_memory="16mb")
    missing = type(spec)(name="redis", image="redis:never-built", ports=(6379,), is_ready=spec.is_ready)
    with pytest.raises(ImageMissing, match="python3 -m local_cluster images"):
        Container.run(missing, reaper, run_id="test-missing")
