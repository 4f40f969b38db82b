"""Installs Debian's Chromium for the browser tests."""

from pathlib import Path
from typing import Final

from local_cluster import apt
from local_cluster.errors import CannotContinue
from local_cluster.settings import Places
from local_cluster.steps import Reporter

CHROMIUM: Final = Path("/usr/bin/chromium")


def ensure_chromium(places: Places, reporter: Reporter) -> None:
    """Install Chromium if it is missing.

    Raises CannotContinue on systems outside the Debian family.
    """
    if CHROMIUM.exists():
        return
    if not apt.is_debian():
        raise CannotContinue(f"The browser test needs {CHROMIUM}. Install Chromium with this system's package manager.")
    reporter.say("Chromium is missing. Installing Debian's with apt-get (usually 30 s)")
    apt.install(["chromium"], places.log("chromium"))
    if not CHROMIUM.exists():
        raise CannotContinue(
            f"apt-get did not install {CHROMIUM}. See {places.log('chromium')}, and install Chromium by hand."
        )
