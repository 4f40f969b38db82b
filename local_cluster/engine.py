"""Provides a Docker engine: one that already answers, or Debian's, also on machines without an init system."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_cluster import apt
from local_cluster.bounded_runc import bounding_set
from local_cluster.errors import CannotContinue
from local_cluster.process import output_of, run
from local_cluster.settings import Places
from local_cluster.steps import Reporter

START_LIMIT_S: Final = 60
STOP_LIMIT_S: Final = 60
PID_FILE: Final = Path("/var/run/docker.pid")
_PACKAGES: Final = ("docker.io", "docker-cli", "docker-buildx", "iptables", "iproute2", "ca-certificates")
"""The packages of a working engine on any Debian. Those that a release does not have are left out."""


def engine_answers() -> bool:
    """Tell whether a Docker engine answers."""
    return output_of(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=20) is not None


def ensure_engine(places: Places, reporter: Reporter) -> None:
    """Return once a Docker engine answers.

    Raises CannotContinue if there is none and this program may not start one.
    """
    if engine_answers():
        return
    if os.geteuid() != 0 or not apt.is_debian() or os.environ.get("DOCKER_HOST"):
        raise CannotContinue(
            "No Docker engine answers. Start Docker (for example with `sudo systemctl start docker`), "
            "or run this command as root on Debian or Ubuntu, where it installs Docker."
        )
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        reporter.say("Docker is missing. Installing Debian's docker.io with apt-get (usually 20 s)")
        apt.install(_PACKAGES, places.log("apt"))
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], log=places.log("docker"), what="Starting Docker with systemctl")
    else:
        _start(places, reporter)


def _log(places: Places) -> Path:
    return places.cache / "dockerd.log"


def _own_pid(places: Places) -> Path:
    return places.cache / "dockerd.pid"


def is_dockerd(pid: int) -> bool:
    """Tell whether the process with this id is a dockerd, because ids are reused."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _start(places: Places, reporter: Reporter) -> None:
    pid = _read_pid(PID_FILE)
    if pid is not None and not is_dockerd(pid):
        # A dockerd that was killed leaves its file, and because of the file the next dockerd refuses to start.
        PID_FILE.unlink()
    elif pid is not None and _wait_until_it_answers(pid):
        return
    places.cache.mkdir(parents=True, exist_ok=True)
    reporter.say(f"Starting dockerd. Its log is {_log(places)}")
    with _log(places).open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", *runtime_arguments(_bounded_runtime(places))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _own_pid(places).write_text(str(process.pid))
    if not _wait_until_it_answers(process.pid):
        raise CannotContinue(f"dockerd did not start within {START_LIMIT_S} s. The end of {_log(places)} says why.")


def _wait_until_it_answers(pid: int) -> bool:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if engine_answers():
            return True
        if not is_dockerd(pid):
            return False
        time.sleep(0.3)
    return False


def runtime_arguments(bounded: Path | None) -> list[str]:
    """Return dockerd's arguments for the runtime of containers."""
    if bounded is None:
        return []
    return ["--add-runtime", f"bounded={bounded}", "--default-runtime", "bounded"]


def _bounded_runtime(places: Places) -> Path | None:
    """Install `bounded_runc.py` if root lacks a capability that privileged containers ask for."""
    if "CAP_SYS_RESOURCE" in bounding_set(Path("/proc/self/status").read_text()):
        return None
    program = places.cache / "bounded-runc"
    source = (places.source / "bounded_runc.py").read_text()
    # -I -S: this program starts with every container, so Python must not search for packages.
    program.write_text(f"#!{sys.executable} -IS\n{source}")
    program.chmod(0o755)
    return program


def stop_own_engine(places: Places) -> bool:
    """Stop the dockerd that `ensure_engine` started. Return False if there is none."""
    pid = _read_pid(_own_pid(places))
    _own_pid(places).unlink(missing_ok=True)
    if pid is None or not is_dockerd(pid):
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT_S
    while is_dockerd(pid):
        if time.monotonic() > deadline:
            raise CannotContinue(f"dockerd (process {pid}) did not stop within {STOP_LIMIT_S} s. See {_log(places)}.")
        time.sleep(0.2)
    return True


@dataclass(frozen=True, slots=True)
class Builder:
    """The docker program that builds images, and whether it uses BuildKit."""

    program: str
    buildkit: bool

    def environment(self) -> dict[str, str]:
        """Return the environment for `docker build`."""
        return {**os.environ, "DOCKER_BUILDKIT": "1" if self.buildkit else "0"}


def has_built_in_buildkit(version: str) -> bool:
    """Tell whether a docker program of this version can build with BuildKit without the buildx plugin."""
    major = version.split(".", 1)[0]
    return major.isdigit() and 18 < int(major) < 23


def find_builder() -> Builder:
    """Return the best docker program for building on this machine. The legacy builder is the last choice."""
    if output_of(["docker", "buildx", "version"]) is not None:
        return Builder("docker", buildkit=True)
    for program in ("docker", "/usr/bin/docker"):
        version = output_of([program, "version", "--format", "{{.Client.Version}}"])
        if version is not None and has_built_in_buildkit(version):
            return Builder(program, buildkit=True)
    return Builder("docker", buildkit=False)
