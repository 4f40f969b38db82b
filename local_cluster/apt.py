"""Installs packages with Debian's tools."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from local_cluster.errors import CannotContinue
from local_cluster.process import output_of, run


def is_debian() -> bool:
    """Tell whether this machine belongs to the Debian family."""
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def known_packages(listing: str) -> set[str]:
    """Return the names in the output of `apt-cache pkgnames`, which has one name on each line."""
    return set(listing.split())


def install(packages: Sequence[str], log: Path) -> None:
    """Install those packages that this release has, without recommended ones.

    Raises CannotContinue if the user may not install packages.
    """
    if os.geteuid() != 0:
        raise CannotContinue(
            f"Packages are missing. Run `sudo apt-get install {' '.join(packages)}`, then run this command again."
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["--quiet", "--option", "DPkg::Lock::Timeout=300"]
    run(["apt-get", *options, "update"], log=log, what="Updating Debian's package lists", env=environment)
    known = known_packages(output_of(["apt-cache", "pkgnames"]) or "")
    wanted = [package for package in packages if package in known]
    run(
        ["apt-get", *options, "install", "--yes", "--no-install-recommends", *wanted],
        log=log,
        what=f"Installing {', '.join(wanted)}",
        env=environment,
    )


def ensure_programs(programs: dict[str, str], log: Path) -> None:
    """Install the package of each missing program. `programs` maps a program to its package."""
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if missing and not is_debian():
        raise CannotContinue(f"{', '.join(missing)} must be installed first. Use this system's package manager.")
    if missing:
        install(missing, log)


def parse_mirror(uris: Iterable[str]) -> str | None:
    """Return the mirror of Debian's main archive among the repositories of this machine."""
    return next((uri for uri in sorted({uri.rstrip("/") for uri in uris}) if uri.endswith("/debian")), None)


def mirror() -> str:
    """Return the mirror that this machine's apt uses. Raises CannotContinue if apt knows none."""
    targets = output_of(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]) or ""
    found = parse_mirror(targets.split())
    if found is None:
        raise CannotContinue("apt knows no Debian mirror. Add one to /etc/apt/sources.list.d and run `apt-get update`.")
    return found
