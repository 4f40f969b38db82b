"""The images of the project's own programs."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_cluster.docker import Recipe, build_image, image_id
from local_cluster.errors import CannotContinue
from local_cluster.fingerprint import fingerprint
from local_cluster.process import run
from local_cluster.settings import PROGRAMS, Places

_STOMPJS: Final = "page/node_modules/@stomp/stompjs/bundles/stomp.umd.min.js"
_SOURCES: Final = {
    "operator": ("contract/pushcluster_contract", "runtime/pushcluster_runtime", "operator/pushcluster_operator"),
    "gateway": ("contract/pushcluster_contract", "runtime/pushcluster_runtime", "gateway_image/pushcluster_gateway"),
    "dispatcher": (
        "contract/pushcluster_contract",
        "runtime/pushcluster_runtime",
        "dispatcher_image/pushcluster_dispatcher",
    ),
    "page": ("page/pushcluster_page", _STOMPJS),
}
"""What each Dockerfile copies besides its requirements."""
_FOLDERS: Final = {"operator": "operator", "gateway": "gateway_image", "dispatcher": "dispatcher_image", "page": "page"}


def image_name(program: str, version: str) -> str:
    """Return the name of a program's image."""
    return f"pushcluster/{program}:{version}"


def certificates(environment: dict[str, str]) -> Path | None:
    """Return this machine's bundle of certificate authorities. It may include that of a company's proxy."""
    named = (environment.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    bundles = [Path(path) for path in (*named, "/etc/ssl/certs/ca-certificates.crt") if path]
    return next((path for path in bundles if path.is_file()), None)


@dataclass(frozen=True, slots=True)
class AppImage:
    """One program's image, made from `python_image`."""

    places: Places
    program: str
    python_image: str
    tag: str = ""
    """The tag, if it is not the version."""

    @property
    def name(self) -> str:
        """The image's name and tag."""
        return image_name(self.program, self.tag or self.places.version())

    @property
    def _requirements(self) -> Path:
        return self.places.root / "requirements" / f"{self.program}.txt"

    def recipe(self) -> Recipe:
        """Return how to build the image. The fingerprint covers everything that is copied into it."""
        root = self.places.root
        dockerfile = root / _FOLDERS[self.program] / "Dockerfile"
        version = self.places.version()
        sources = [dockerfile, self._requirements, *(root / source for source in _SOURCES[self.program])]
        return Recipe(
            tag=self.name,
            content=fingerprint(version, image_id(self.python_image) or "", paths=sources),
            context=root,
            dockerfile=dockerfile,
            arguments={"PYTHON_IMAGE": self.python_image},
            labels={
                "org.opencontainers.image.title": f"pushcluster-{self.program}",
                "org.opencontainers.image.version": version,
            },
            network="none",
        )

    def build(self) -> None:
        """Build the image if anything in it has changed."""
        recipe = self.recipe()
        if recipe.is_built():
            return
        log = self.places.log(f"image-{self.program}")
        self._provide_wheels(log)
        build_image(recipe, log)

    def _provide_wheels(self, log: Path) -> None:
        """Fetch the locked packages inside the base image, so that they fit its Python and not this machine's.

        The container uses the host's network and certificates, which a build's own network often lacks.
        """
        kept = self.places.cache / "wheels" / fingerprint(image_id(self.python_image) or "", paths=[self._requirements])
        if not kept.is_dir():
            partial = kept.with_suffix(f".partial-{os.getpid()}")
            partial.mkdir(parents=True)
            run(
                plan_wheels(self.python_image, self._requirements, partial),
                log=log,
                what=f"Fetching the packages of {self.program}",
            )
            partial.rename(kept)
        wheels = self.places.build / "wheels" / self.program
        shutil.rmtree(wheels, ignore_errors=True)
        shutil.copytree(kept, wheels)


def plan_wheels(python_image: str, requirements: Path, target: Path) -> list[str]:
    """Return the command that downloads the locked wheels into `target`."""
    bundle = certificates(dict(os.environ))
    options = ["--volume", f"{bundle}:/ca.crt:ro", "--env", "PIP_CERT=/ca.crt"] if bundle else []
    script = (
        "python -m venv /installer && /installer/bin/pip download --quiet --disable-pip-version-check --no-deps "
        "--only-binary=:all: --require-hashes --requirement /requirements.txt --dest /wheels "
        f"&& chown -R {os.getuid()}:{os.getgid()} /wheels"
    )
    mounts = ["--volume", f"{requirements}:/requirements.txt:ro", "--volume", f"{target}:/wheels"]
    proxies = ["--env", "PIP_INDEX_URL", "--env", "HTTPS_PROXY", "--env", "https_proxy"]
    return ["docker", "run", "--rm", "--network", "host", *options, *mounts, *proxies, python_image, "sh", "-c", script]


def provide_stompjs(places: Places) -> None:
    """Fetch the locked @stomp/stompjs, which the sample page serves.

    Raises CannotContinue without npm.
    """
    if (places.root / _STOMPJS).exists():
        return
    if shutil.which("npm") is None:
        raise CannotContinue(
            "npm is missing; it fetches the page's STOMP client. Install Node.js and run the command again."
        )
    run(
        ["npm", "ci", "--silent"],
        log=places.log("npm"),
        what="Fetching @stomp/stompjs with npm",
        cwd=places.root / "page",
    )


def build_apps(places: Places, python_image: str) -> None:
    """Build the images of all programs that changed, one after the other, because they share layers."""
    provide_stompjs(places)
    for program in PROGRAMS:
        AppImage(places, program, python_image).build()


def apps_are_built(places: Places, python_image: str | None) -> bool:
    """Tell whether every program's image exists and was made from the current sources."""
    if python_image is None or not (places.root / _STOMPJS).exists():
        return False
    return all(AppImage(places, program, python_image).recipe().is_built() for program in PROGRAMS)
