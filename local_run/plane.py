"""The data plane of one PushCluster on this machine. Its parts start together and end together."""

import asyncio
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import jwt
import yaml

from local_run.containers import Container, ContainerSpec, free_port, remove_orphans
from local_run.errors import LocalRunError
from local_run.images import find_image
from local_run.plan import HOST, LocalCluster, Program, plan_dispatcher, plan_gateway, plan_page
from local_run.processes import Process
from local_run.reaper import Reaper
from local_run.service import Service
from pushcluster_operator.children import Images
from pushcluster_operator.spec.pushcluster import API_VERSION, KIND

CONTAINER_READY_S: Final = 90.0
PROCESS_READY_S: Final = 60.0
WATCH_S: Final = 0.5
TOKEN_TTL_S: Final = 86_400
STOMPJS_DIR: Final = Path(__file__).parent.parent / "page/node_modules/@stomp/stompjs/bundles"


class RunningProgram:
    """A program of the running plane: where it is, and ways to make it fail on purpose."""

    def __init__(self, program: Program, process: Process) -> None:
        self.name = program.process.name
        self.url = program.url
        self.admin_url = program.admin_url
        self.process = process

    async def kill(self) -> None:
        """Kill it with SIGKILL, as when a container is out of memory."""
        await asyncio.to_thread(self.process.kill)

    async def terminate(self, within_s: float) -> None:
        """Send SIGTERM, as when a pod is deleted. Return when the program has drained and ended."""
        await asyncio.to_thread(self.process.terminate, within_s)

    async def start(self) -> None:
        """Start it again in the same pod. Return when it is ready."""
        self.process.start()
        await asyncio.to_thread(self.process.wait_ready, PROCESS_READY_S)


class LocalPlane:
    """`async with LocalPlane(body) as plane`: Redis, RabbitMQ, gateways, dispatchers and the page.

    `body` is a PushCluster, parsed from YAML. After the block, and after `kill -9` of its owner, everything is removed.
    """

    redis: Container
    rabbitmq: Container
    ws_url: str
    """The address of the gateways' Service, which leads to any gateway."""
    gateways: list[RunningProgram]
    dispatchers: list[RunningProgram]
    page: RunningProgram | None
    logs: Path
    """The directory of the programs' logs."""

    def __init__(
        self,
        body: Mapping[str, Any],
        *,
        gateways: int = 2,
        dispatchers: int = 1,
        with_page: bool = True,
        allocate: Callable[[], int] = free_port,
    ) -> None:
        unused = "not-run-as-an-image"
        images = Images(unused, unused, rabbitmq=find_image("rabbitmq"), redis=find_image("redis"))
        self.cluster = LocalCluster.from_body(body, images, os.urandom)
        self._counts = {"gateway": gateways, "dispatcher": dispatchers}
        self._with_page = with_page
        self._allocate = allocate
        self._run_id = secrets.token_hex(4)
        self._processes: list[Process] = []

    @classmethod
    def from_file(cls, path: Path, *, allocate: Callable[[], int] = free_port) -> Self:
        """Read the one PushCluster in a YAML file. Raises LocalRunError or InvalidSpec."""
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise LocalRunError(f"cannot read {path}: {error}") from None
        found = [each for each in documents if isinstance(each, dict) and each.get("kind") == KIND]
        if len(found) != 1:
            raise LocalRunError(f"{path} must contain exactly one {KIND}, but contains {len(found) or 'none'}")
        _check_head(found[0], path)
        return cls(found[0], allocate=allocate)

    async def __aenter__(self) -> Self:
        self._reaper = Reaper()
        self._service = Service()
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def producer_url(self) -> str:
        """The AMQP URL for a back end. It may publish to `push` and nothing else."""
        return self.cluster.producer_url(self._hosts)

    @property
    def amqp_url(self) -> str:
        """An AMQP URL that may do everything in the vhost, for looking into the broker."""
        return self.cluster.connection_urls(self._hosts)[0]

    @property
    def redis_url(self) -> str:
        """The URL of Redis, with the password."""
        return self.cluster.connection_urls(self._hosts)[1]

    def token(self, user: str) -> str:
        """Return a token that the gateways accept for a day. Raises LocalRunError if this run has no signing key."""
        if (key := self.cluster.jwt_key) is None:
            raise LocalRunError(
                "this run has no key that signs tokens: in auth mode Trusted the gateways take the user from the login "
                "header, and with RS256 or ES256 the issuer signs tokens"
            )
        now = int(time.time())
        return jwt.encode({self.cluster.user_claim: user, "iat": now, "exp": now + TOKEN_TTL_S}, key, algorithm="HS256")

    async def first_failure(self) -> str:
        """Wait until a container or a process ends unexpectedly. Return a sentence about it."""
        watches = [
            asyncio.create_task(self._process_failure()),
            asyncio.create_task(_container_failure(self.redis)),
            asyncio.create_task(_container_failure(self.rabbitmq)),
        ]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _process_failure(self) -> str:
        while True:
            for process in self._processes:
                if (sentence := process.failure()) is not None:
                    return sentence
            await asyncio.sleep(WATCH_S)

    async def _start(self) -> None:
        await asyncio.to_thread(remove_orphans)
        logs = self.logs = Path(tempfile.mkdtemp(prefix="pushcluster-run-"))
        self._reaper.will_remove("directory", str(logs))
        # Allocate the ports that people type first, so that these are the same at the next run.
        page_port, service_port = self._allocate(), self._allocate()
        self.ws_url = f"ws://{HOST}:{service_port}/ws"
        self.redis, self.rabbitmq = await self._start_stores()
        self._hosts = {
            **self.cluster.hosts("redis", self.redis.host_ports),
            **self.cluster.hosts("rabbitmq", self.rabbitmq.host_ports),
        }
        self.dispatchers = [self._start_program(program, logs) for program in self._plan("dispatcher", plan_dispatcher)]
        # Dispatchers declare what gateways bind to. Waiting for them is quicker than the gateways' back-off.
        await self._wait_ready(self.dispatchers)
        keys = logs / "keys"
        keys.mkdir()
        for name, data in self.cluster.auth_files.items():
            (keys / name).write_bytes(data)
        plan = partial(plan_gateway, page_origin=f"http://{HOST}:{page_port}", keys_directory=str(keys))
        self.gateways = [self._start_program(program, logs) for program in self._plan("gateway", plan)]
        await self._service.start(service_port, [urlsplit(gateway.url).port or 0 for gateway in self.gateways])
        page = self._plan_page(page_port)
        self.page = self._start_program(page, logs) if page else None
        await self._wait_ready([*self.gateways, self.page] if self.page else self.gateways)

    async def _wait_ready(self, programs: Sequence[RunningProgram]) -> None:
        await asyncio.gather(*(asyncio.to_thread(p.process.wait_ready, PROCESS_READY_S) for p in programs))

    async def _end(self) -> None:
        await self._service.close()
        for process in self._processes:
            await asyncio.to_thread(process.end)
        await asyncio.to_thread(self._reaper.close)

    async def _start_stores(self) -> tuple[Container, Container]:
        try:
            # A group also ends one when the other fails.
            async with asyncio.TaskGroup() as group:
                redis = group.create_task(self._start_container(self.cluster.store("redis")))
                rabbitmq = group.create_task(self._start_container(self.cluster.store("rabbitmq")))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return redis.result(), rabbitmq.result()

    async def _start_container(self, spec: ContainerSpec) -> Container:
        starting = asyncio.create_task(
            asyncio.to_thread(Container.run, spec, self._reaper, self._run_id, self._allocate)
        )
        try:
            container = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on. The reaper must know what it makes before the reaper is closed.
            await asyncio.wait([starting])
            raise
        await asyncio.to_thread(container.wait_ready, CONTAINER_READY_S)
        return container

    def _plan(self, component: str, plan: Callable[..., Program]) -> list[Program]:
        pods = (self.cluster.pod(component, n, str(uuid.uuid4())) for n in range(self._counts[component]))
        return [plan(self.cluster, pod, self._hosts, self._allocate) for pod in pods]

    def _plan_page(self, port: int) -> Program | None:
        if not self._with_page:
            return None
        if not STOMPJS_DIR.is_dir():
            raise LocalRunError("the page's STOMP client is not installed; run `npm ci --prefix page`")
        return plan_page(self.cluster, self.ws_url, self.dispatchers[0].url, str(STOMPJS_DIR), port)

    def _start_program(self, program: Program, logs: Path) -> RunningProgram:
        process = Process(program.process, logs, self._reaper)
        self._processes.append(process)
        process.start()
        return RunningProgram(program, process)


def _check_head(document: Mapping[str, Any], path: Path) -> None:
    """Raise LocalRunError for what the API server would refuse before it looks at the spec."""
    if (version := document.get("apiVersion")) != API_VERSION:
        raise LocalRunError(f"{path} contains a {KIND} with apiVersion {version!r}; only {API_VERSION} is known here")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise LocalRunError(f"{path} contains a {KIND} whose metadata.name is missing or is not a text")


async def _container_failure(container: Container) -> str:
    # `docker wait` sleeps until then. Polling would start a process each time.
    waiting = await asyncio.create_subprocess_exec(
        "docker", "wait", container.id, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        await waiting.wait()
    except asyncio.CancelledError:
        waiting.kill()
        await waiting.wait()
        raise
    return f"{container.spec.name} ended. The end of its log:\n{await asyncio.to_thread(container.log, 20)}"
