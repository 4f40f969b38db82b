"""The base images and the images that come from elsewhere: Debian, Python, Redis, RabbitMQ."""

import subprocess
import threading
from dataclasses import dataclass
from typing import Final

from local_cluster import apt
from local_cluster.docker import CONTENT_LABEL, Recipe, build_image, content_of, image_id
from local_cluster.errors import failed
from local_cluster.fingerprint import fingerprint
from local_cluster.process import started
from local_cluster.registry import Registry
from local_cluster.settings import Places

BASE: Final = "pushcluster/base:local"
_SUITE: Final = "trixie"
_EXCLUDED: Final = ("doc", "man", "locale", "info", "lintian", "i18n/locales")
_SOURCES: Final = "Types: deb\\nURIs: {mirror}\\nSuites: {suite}\\nComponents: main\\nSigned-By: {key}\\n"
_KEY: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_base_lock = threading.Lock()


def plan_bootstrap(mirror: str) -> list[str]:
    """Return the command that writes a small Debian as a tar file to its standard output."""
    sources = _SOURCES.format(mirror=mirror, suite=_SUITE, key=_KEY)
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--include=ca-certificates",
        "--quiet",
        '--aptopt=Apt::Install-Recommends "false"',
        # The lists of sid, from which RabbitMQ comes, and those of a mirror that is not updated soon become old.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _EXCLUDED),
        '--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
        f'--customize-hook=printf "{sources}" > "$1"/etc/apt/sources.list.d/debian.sources',
        _SUITE,
        "-",
        mirror,
    ]


def base_content() -> str:
    """Return the fingerprint of the small Debian."""
    return fingerprint(*plan_bootstrap("MIRROR"))


def base_is_built() -> bool:
    """Tell whether the image of the small Debian exists and is up to date."""
    return content_of(BASE) == base_content()


def provide_base(places: Places) -> None:
    """Make sure that the small Debian exists. All images that are built here are based on it."""
    with _base_lock:
        if not base_is_built():
            _build_base(places)


def _build_base(places: Places) -> None:
    log = places.log("base")
    apt.ensure_programs({"mmdebstrap": "mmdebstrap"}, log)
    load = [
        "docker",
        "import",
        "--change",
        'CMD ["bash"]',
        "--change",
        f"LABEL {CONTENT_LABEL}={base_content()}",
        "-",
        BASE,
    ]
    with log.open("ab") as output:
        bootstrap = subprocess.Popen(plan_bootstrap(apt.mirror()), stdout=subprocess.PIPE, stderr=output)
        with (
            started(bootstrap),
            started(subprocess.Popen(load, stdin=bootstrap.stdout, stdout=output, stderr=output)) as docker,
        ):
            if bootstrap.stdout is not None:
                bootstrap.stdout.close()
            loaded, made = docker.wait(), bootstrap.wait()
    if made or loaded:
        # An incomplete stream may have been imported as if it were complete.
        subprocess.run(["docker", "image", "rm", BASE], capture_output=True, check=False)
        raise failed("Making a small Debian with mmdebstrap", log)


@dataclass(frozen=True, slots=True)
class OuterImage:
    """An image that comes from its public registry, or is built here under another name."""

    name: str
    public: str
    local: str

    def recipe(self, places: Places) -> Recipe:
        """Return how to build the stand-in."""
        folder = places.source / "images" / self.name
        return Recipe(
            tag=self.local,
            content=fingerprint(base_content(), paths=[folder]),
            context=folder,
            dockerfile=folder / "Dockerfile",
            arguments={"BASE": BASE},
        )

    def present(self, places: Places) -> str | None:
        """Return the tag under which an up-to-date image exists here, or None."""
        if content_of(self.local) == self.recipe(places).content:
            return self.local
        return self.public if image_id(self.public) is not None else None

    def provide(self, places: Places, registry: Registry) -> str:
        """Pull or build the image. Return its tag."""
        if (here := self.present(places)) is not None:
            return here
        if registry.pull(self.public, places):
            return self.public
        provide_base(places)
        build_image(self.recipe(places), places.log(self.name))
        return self.local


PYTHON: Final = OuterImage("python", public="python:3.13-slim", local="pushcluster/python:3.13-local")
REDIS: Final = OuterImage("redis", public="redis:8", local="redis:8-local")
RABBITMQ: Final = OuterImage("rabbitmq", public="rabbitmq:4.3", local="rabbitmq:4.3-local")
