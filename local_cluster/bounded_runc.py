"""Runs runc where root lacks capabilities that containers ask for, as in many sandboxes.

dockerd runs a copy of this file in place of runc. It removes from a container's request the capabilities that this
machine's root does not have, because runc would refuse to start the container with them. This file imports nothing of
the project.
"""

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

# In the order of their bits in /proc/PID/status (linux/capability.h).
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)


def bounding_set(status: str) -> frozenset[str]:
    """Return the names of the capabilities in the `CapBnd` line of a /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    bits = int(line.split()[1], 16)
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1)


def bound_process(process: dict[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """Return the `process` object of the OCI runtime specification without the capabilities that are not allowed."""
    bounded = dict(process)
    if "capabilities" in process:
        bounded["capabilities"] = {
            kind: [name for name in names if name in allowed] for kind, names in process["capabilities"].items()
        }
    # Lowering the score of a process needs CAP_SYS_RESOURCE.
    if "CAP_SYS_RESOURCE" not in allowed and bounded.get("oomScoreAdj", 0) < 0:
        bounded["oomScoreAdj"] = 0
    return bounded


def option(arguments: list[str], *names: str) -> str | None:
    """Return the value after the first of these options, or None."""
    for name, value in itertools.pairwise(arguments):
        if name in names:
            return value
    return None


def rewrite(arguments: list[str], allowed: frozenset[str]) -> None:
    """Rewrite the file that this call of runc will read, with only the allowed capabilities."""
    if {"create", "run"}.intersection(arguments):
        config = Path(option(arguments, "--bundle", "-b") or ".") / "config.json"
        document = json.loads(config.read_bytes())
        document["process"] = bound_process(document.get("process", {}), allowed)
        config.write_text(json.dumps(document))
    elif "exec" in arguments and (process := option(arguments, "--process", "-p")):
        path = Path(process)
        path.write_text(json.dumps(bound_process(json.loads(path.read_bytes()), allowed)))


if __name__ == "__main__":
    rewrite(sys.argv[1:], bounding_set(Path("/proc/self/status").read_text()))
    os.execvp("runc", ["runc", *sys.argv[1:]])  # noqa: S606 - the same process goes on as runc
