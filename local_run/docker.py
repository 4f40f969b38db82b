"""A thin wrapper around the `docker` command."""

import re
import shutil
import subprocess
from typing import Final

from local_run.errors import BeingRemoved, DockerError, PortTaken

COMMAND_TIMEOUT_S: Final = 60.0
_BEING_REMOVED: Final = re.compile(r"removal of container \S+ is already in progress")


def docker(*args: str, stdin: bytes | None = None) -> str:
    """Run `docker args…`. Return what it wrote to stdout, stripped. Raises DockerError, PortTaken or BeingRemoved."""
    binary = shutil.which("docker")
    if binary is None:
        raise DockerError("there is no docker command on this machine; run `python3 -m local_cluster docker`")
    try:
        done = subprocess.run(
            [binary, *args],
            input=stdin,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            # Ctrl-C in a terminal must not interrupt a command, or nobody would know what it made.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise DockerError(f"docker {args[0]} did not answer within {COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise _as_error(args[0], done.stderr.decode(errors="replace").strip())
    return done.stdout.decode(errors="replace").strip()


def _as_error(command: str, stderr: str) -> DockerError:
    if "port is already allocated" in stderr or "address already in use" in stderr:
        return PortTaken(stderr)
    if stderr and all(_BEING_REMOVED.search(line) for line in stderr.splitlines()):
        return BeingRemoved(stderr)
    if "Cannot connect to the Docker daemon" in stderr:
        return DockerError(f"the docker engine does not answer ({stderr}); run `python3 -m local_cluster docker`")
    return DockerError(f"docker {command} failed: {stderr}")
