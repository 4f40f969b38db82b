"""Pulls images from the public registries, where they can be reached."""

import os
import ssl
import threading
import urllib.error
import urllib.request
from typing import Final

from local_cluster.process import output_of
from local_cluster.settings import Places

PROBE_LIMIT_S: Final = 5
PULL_LIMIT_S: Final = 600
_PROBE_URL: Final = "https://registry-1.docker.io/v2/"
ENV_REGISTRY: Final = "PUSHCLUSTER_REGISTRY"
"""With the value `never`, everything is built here. With any other value, the registry is asked first."""


def means_reachable(status: int) -> bool:
    """Tell whether an HTTP status comes from a registry: it wants a token (401), or needs none (200)."""
    return status in {200, 401}


class Registry:
    """The registry. It is probed once in a run, because a probe without an answer takes its whole time limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: bool | None = None

    def answers(self) -> bool:
        """Tell whether images can be pulled from the public registry."""
        with self._lock:
            if self._answers is None:
                self._answers = os.environ.get(ENV_REGISTRY) != "never" and _probe()
            return self._answers

    def pull(self, image: str, places: Places) -> bool:
        """Pull the image. Return False if that fails."""
        if not self.answers():
            return False
        pulled = output_of(["docker", "pull", "--quiet", image], timeout_s=PULL_LIMIT_S)
        with places.log("pull").open("a") as log:
            log.write(f"{image}: {'pulled' if pulled is not None else 'not pulled'}\n")
        return pulled is not None


def _probe() -> bool:
    try:
        with urllib.request.urlopen(_PROBE_URL, timeout=PROBE_LIMIT_S) as answer:
            return means_reachable(answer.status)
    except urllib.error.HTTPError as error:
        return means_reachable(error.code)
    except (OSError, ssl.SSLError):
        return False
