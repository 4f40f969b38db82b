"""Service containers on 127.0.0.1: start them, make them fail on purpose, and always remove them with their owner."""

import fcntl
import io
import os
import random
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from local_run.docker import docker
from local_run.errors import BeingRemoved, ImageMissing, LocalRunError, PortTaken
from local_run.owner import Owner
from local_run.reaper import Reaper

RUN_LABEL: Final = "pushcluster.dev/run"
OWNER_LABEL: Final = "pushcluster.dev/owner"
SERVICE_UID: Final = 999
"""The user id of redis and rabbitmq, in the public images and in the local ones."""
START_ATTEMPTS: Final = 5
POLL_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 2.0
REMOVED_WITHIN_S: Final = 60.0
LOWEST_PORT: Final = 20_000
"""Above the well-known ports of services."""
_OUTGOING_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

_CLAIMS: Final = Path(tempfile.gettempdir(), f"pushcluster-ports-{os.getuid()}")
"""Each byte stands for a port, and is locked by the process that was given this port."""

_given_ports: Final[set[int]] = set()
_claims: Final[list[int]] = []
"""The descriptor of the file of claims, once the first port was asked for."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now, and that no outgoing connection will get.

    No port is returned twice while the process lives that got it, not even to another process: services get theirs some
    time before they listen, and a stopped one comes back to its own.

    The kernel takes ports of outgoing connections from `ip_local_port_range`. A port from there could be taken before
    its owner listens, or while a stopped service is about to come back to it.
    """
    first_outgoing = int(_OUTGOING_PORTS.read_text().split()[0])
    end = first_outgoing if first_outgoing > LOWEST_PORT else 65_536
    while True:
        port = random.randrange(LOWEST_PORT, end)  # noqa: S311 - no secret
        if port not in _given_ports and is_free(port) and _claim(port):
            _given_ports.add(port)
            return port


def _claim(port: int) -> bool:
    """Take the port for this process. Return False if another process has taken it.

    The claim is a lock on one byte of a file that all processes share. It ends with the process. The file stays open:
    closing it would give up all claims.
    """
    if not _claims:
        _claims.append(os.open(_CLAIMS, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        fcntl.lockf(_claims[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Tell whether nobody listens on this TCP port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to run."""

    name: str
    image: str
    ports: tuple[int, ...]
    """The ports inside. Each is published on a free port of 127.0.0.1 that stays the same after restarts."""
    is_ready: Callable[[int], bool]
    """Called with the first port's host port until it returns True. An OSError counts as False."""
    entrypoint: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Absolute path inside → content. The files are put there before the start."""
    volumes: tuple[str, ...] = ()
    """Absolute paths whose content survives a kill. They are removed with the container."""
    hostname: str = ""


class Container:
    """One running container. The methods block; from a coroutine, call them with `asyncio.to_thread`.

    It is not started with `--rm`, because docker would then remove it with its log and data at the first `kill`.
    """

    def __init__(self, spec: ContainerSpec, container_id: str, host_ports: Mapping[int, int]) -> None:
        self.spec = spec
        self.id = container_id
        self.host_ports = host_ports

    @classmethod
    def run(
        cls, spec: ContainerSpec, reaper: Reaper, run_id: str, allocate: Callable[[], int] = free_port
    ) -> "Container":
        """Create and start a container on ports that `allocate` returns. It may not be ready yet.

        Raises ImageMissing or DockerError.
        """
        if not docker("image", "ls", "--quiet", spec.image):
            raise ImageMissing(
                f"there is no image {spec.image}; run `python3 -m local_cluster images --only data-plane`"
            )
        for _ in range(START_ATTEMPTS):
            container = cls._create(spec, reaper, run_id, allocate)
            try:
                docker("start", container.id)
            except PortTaken:
                container.remove()
            else:
                return container
        raise LocalRunError(f"no free port on 127.0.0.1 for {spec.name} after {START_ATTEMPTS} attempts")

    @classmethod
    def _create(cls, spec: ContainerSpec, reaper: Reaper, run_id: str, allocate: Callable[[], int]) -> "Container":
        host_ports = {port: allocate() for port in spec.ports}
        options = [f"--label={RUN_LABEL}={run_id}", f"--label={OWNER_LABEL}={Owner.current()}"]
        options += [f"--publish=127.0.0.1:{outside}:{inside}" for inside, outside in host_ports.items()]
        options += [f"--env={name}={value}" for name, value in spec.env.items()]
        options += [f"--volume={path}" for path in spec.volumes]
        options += [f"--hostname={spec.hostname}"] if spec.hostname else []
        options += [f"--entrypoint={spec.entrypoint}"] if spec.entrypoint else []
        container_id = docker("create", *options, spec.image, *spec.command)
        reaper.will_remove("container", container_id)
        if spec.files:
            docker("cp", "-", f"{container_id}:/", stdin=_tar(spec.files))
        return cls(spec, container_id, host_ports)

    @property
    def host_port(self) -> int:
        """The port on 127.0.0.1 for the first port."""
        return self.host_ports[self.spec.ports[0]]

    def wait_ready(self, within_s: float) -> None:
        """Return when the service answers. Raises LocalRunError with the end of its log if it does not."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                if self.spec.is_ready(self.host_port):
                    return
            except OSError:
                pass
            if not self.is_running():
                raise LocalRunError(
                    f"{self.spec.name} ended while it was starting. The end of its log:\n{self.log(40)}"
                )
            time.sleep(POLL_S)
        raise LocalRunError(
            f"{self.spec.name} is not ready after {within_s:.0f} s. The end of its log:\n{self.log(40)}"
        )

    def is_running(self) -> bool:
        """Tell whether the main process lives."""
        return docker("inspect", "--format={{.State.Running}}", self.id) == "true"

    def kill(self) -> None:
        """Send SIGKILL. Data on disk stays for the next `start`."""
        docker("kill", "--signal=KILL", self.id)
        docker("wait", self.id)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after 10 s."""
        docker("stop", "--time=10", self.id)

    def start(self) -> None:
        """Start again after `kill` or `stop`, with the same data and the same host port."""
        docker("start", self.id)

    def pause(self) -> None:
        """Freeze the container. Connections stay open and nothing answers."""
        docker("pause", self.id)

    def unpause(self) -> None:
        """Undo `pause`."""
        docker("unpause", self.id)

    def exec(self, *command: str) -> str:
        """Run a command inside and return what it wrote to stdout."""
        return docker("exec", self.id, *command)

    def log(self, lines: int) -> str:
        """Return the end of what the service wrote to stdout."""
        return docker("logs", f"--tail={lines}", self.id)

    def remove(self) -> None:
        """Remove the container with its data, whether it runs or not."""
        remove_containers([self.id])


def remove_containers(ids: Sequence[str]) -> None:
    """Remove containers with their data. Return when they are gone, also if somebody else is removing them.

    Raises DockerError.
    """
    try:
        docker("rm", "--force", "--volumes", *ids)
    except BeingRemoved as error:
        deadline = time.monotonic() + REMOVED_WITHIN_S
        while _list_existing(ids):
            if time.monotonic() > deadline:
                raise LocalRunError(f"not gone after {REMOVED_WITHIN_S:.0f} s: {error}") from error
            time.sleep(POLL_S)


def _list_existing(ids: Sequence[str]) -> list[str]:
    return docker("ps", "--all", "--quiet", *(f"--filter=id={each}" for each in ids)).split()


def remove_orphans() -> list[str]:
    """Remove containers of runs whose owner is gone, such as after a power loss. Return their ids."""
    orphans: list[str] = []
    listed = docker(
        "ps", "--all", f"--filter=label={OWNER_LABEL}", f'--format={{{{.ID}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
    )
    for line in listed.splitlines():
        container_id, _, text = line.partition(" ")
        owner = Owner.parse(text)
        if owner is not None and owner.is_gone():
            orphans.append(container_id)
    if orphans:
        remove_containers(orphans)
    return orphans


def redis_is_ready(port: int, password: str = "") -> bool:
    """Tell whether Redis answers PING with PONG. While it loads its log, it answers LOADING."""
    auth = f"AUTH {password}\r\n" if password else ""
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
        connection.sendall(f"{auth}PING\r\nQUIT\r\n".encode())
        reply = b""
        while chunk := connection.recv(4096):
            reply += chunk
    return b"+PONG" in reply


def rabbitmq_is_ready(port: int) -> bool:
    """Tell whether the broker sends Connection.Start (AMQP 0-9-1, 4.2.2). A docker port accepts earlier than that."""
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return connection.recv(1) == b"\x01"


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive with the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(str(PurePosixPath(path).relative_to("/")))
            member.size, member.mode = len(content), 0o640
            member.uid = member.gid = SERVICE_UID
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
