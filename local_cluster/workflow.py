"""The steps of each command, and which steps need which."""

import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from local_cluster.app_images import AppImage, apps_are_built, build_apps, image_name
from local_cluster.base_images import PYTHON, RABBITMQ, REDIS, OuterImage, base_is_built, provide_base
from local_cluster.cluster import Cluster
from local_cluster.docker import build_image, image_id
from local_cluster.engine import engine_answers, ensure_engine
from local_cluster.errors import CannotContinue
from local_cluster.kube_build import cluster_binary, host_tools
from local_cluster.last_release import provide_sources, release_images
from local_cluster.loading import identities, load_images, pinned_name
from local_cluster.node_image import LOCAL, PUBLIC, NodeImage
from local_cluster.registry import ENV_REGISTRY, Registry
from local_cluster.settings import KUBERNETES_VERSION, NODE_PORTS, PROGRAMS, Places
from local_cluster.steps import Reporter, Step

DATA_PLANE: Final = (REDIS, RABBITMQ)


@dataclass
class Workflow:
    """What one command knows: directories, the registry's answer, and the images that were found or made."""

    places: Places
    reporter: Reporter
    registry: Registry = field(default_factory=Registry)
    changed: list[str] = field(default_factory=list)
    last_images: dict[str, str] = field(default_factory=dict)
    """The images of the last release in the nodes, once they are there."""
    engine_was_down: bool = False
    """Whether this command started Docker. An earlier cluster has then lost its processes and its routes."""

    @cached_property
    def _node(self) -> NodeImage:
        return NodeImage(self.places, cluster_binary(self.places))

    @cached_property
    def _builds_node(self) -> bool:
        """Whether the node image is built here: because it already was, or because no registry answers."""
        if engine_answers() and self._node.is_built() and self._node.binary.is_built():
            return True
        if self.registry.answers():
            return False
        self.reporter.say("No container registry answers, so images are built from Debian's packages and Go modules.")
        return True

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster. Use it only when its node image exists."""
        if self._builds_node:
            return Cluster(self.places, LOCAL, self._node.content, self._node.binary.folder)
        return Cluster(self.places, PUBLIC, image_id(PUBLIC) or "", host_tools(self.places).folder)

    def engine_step(self) -> Step:
        """Return the step that provides a Docker engine."""
        return Step("engine", "Docker engine", 20, self._start_engine, is_done=engine_answers)

    def _start_engine(self) -> None:
        ensure_engine(self.places, self.reporter)
        self.engine_was_down = True

    def data_plane_steps(self) -> list[Step]:
        """Return the steps that provide the images of Redis and RabbitMQ."""
        return [
            Step(
                "base",
                "Small Debian as the base of images",
                40,
                lambda: provide_base(self.places),
                needs=("engine",),
                is_done=lambda: base_is_built() or self.registry.answers(),
            ),
            self._outer_step(REDIS, 15),
            self._outer_step(RABBITMQ, 40),
        ]

    def _outer_step(self, image: OuterImage, usual_s: int) -> Step:
        return Step(
            image.name,
            f"Image {image.public}",
            usual_s,
            lambda: void(image.provide(self.places, self.registry)),
            needs=("base",),
            is_done=lambda: image.present(self.places) is not None,
        )

    def app_steps(self) -> list[Step]:
        """Return the steps that build the project's own images, which need Python's image."""
        return [
            self._outer_step(PYTHON, 10),
            Step(
                "apps",
                f"Images of {', '.join(PROGRAMS)}",
                40,
                lambda: build_apps(self.places, self._present(PYTHON)),
                needs=("python",),
                is_done=lambda: apps_are_built(self.places, PYTHON.present(self.places)),
            ),
        ]

    def _present(self, image: OuterImage) -> str:
        name = image.present(self.places)
        if name is None:
            raise CannotContinue(f"The image {image.public} is missing. Run `python3 -m local_cluster images`.")
        return name

    def node_steps(self) -> list[Step]:
        """Return the steps that build or pull the node image."""
        if self._builds_node:
            return self._node_build_steps()
        tools = host_tools(self.places)
        return [
            Step(
                "kind",
                "kind and kubectl from their Go modules",
                90,
                tools.build,
                is_done=lambda: tools.is_built() or all(map(shutil.which, ("kind", "kubectl"))),
            ),
            Step(
                "node", f"Image {PUBLIC}", 60, self._pull_node, ("engine", "kind"), lambda: image_id(PUBLIC) is not None
            ),
        ]

    def _node_build_steps(self) -> list[Step]:
        node, tools = self._node, self._node.tools()
        return [
            Step(
                "kubernetes",
                f"Kubernetes {KUBERNETES_VERSION.removeprefix('v')} from its Go modules",
                360,
                node.binary.build,
                is_done=node.binary.is_built,
                share=node.binary.share,
            ),
            Step(
                "node-tools",
                "Debian packages of a node",
                40,
                lambda: build_image(tools, self.places.log("node-tools")),
                needs=("base",),
                is_done=lambda: tools.is_built() or node.is_built(),
            ),
            Step(
                "node",
                "Node image",
                40,
                lambda: node.build([self._present(store) for store in DATA_PLANE]),
                needs=("kubernetes", "node-tools", "redis", "rabbitmq"),
                is_done=node.is_built,
            ),
        ]

    def _pull_node(self) -> None:
        if not self.registry.pull(PUBLIC, self.places):
            raise CannotContinue(
                f"{PUBLIC} could not be pulled, although its registry answers. Try `docker pull {PUBLIC}`, "
                f"or set {ENV_REGISTRY}=never to build everything here."
            )

    def cluster_steps(self) -> list[Step]:
        """Return the steps that create a cluster with the images inside."""
        return [
            Step(
                "cluster",
                "Cluster of three nodes",
                40,
                self._create_cluster,
                ("node",),
                self._cluster_is_well,
            ),
            Step("network", "Routes, names and volumes", 10, self._connect, needs=("cluster",)),
            self.load_step("cluster", "redis", "rabbitmq", "apps"),
        ]

    # These are methods because `cluster` may be used only when there is a node image, which is when they are called.
    def _create_cluster(self) -> None:
        if (what := self.cluster.describe_replacement()) is not None:
            self.reporter.say(what)
            self.cluster.give_time_to_keep_it()
        self.cluster.create()

    def _cluster_is_well(self) -> bool:
        return not self.engine_was_down and self.cluster.is_well()

    def _connect(self) -> None:
        self.cluster.connect()
        self.cluster.wait_until_ready()

    def load_step(self, *needs: str) -> Step:
        """Return the step that brings the nodes' images up to date."""
        return Step("load", "Images into the nodes", 20, self._load, needs=needs)

    def _load(self) -> None:
        built, named = self._built_images(), self.images()
        self.changed = load_images({named[part]: built[part] for part in built}, self.places.log("load"))

    def _built_images(self) -> dict[str, str]:
        """Return the name here of each part's image: operator, gateway, dispatcher, page, redis, rabbitmq."""
        version = self.places.version()
        return {
            **{program: image_name(program, version) for program in PROGRAMS},
            **{image.name: self._present(image) for image in DATA_PLANE},
        }

    def images(self) -> dict[str, str]:
        """Return the name in the nodes of each part's image."""
        built = self._built_images()
        ids = identities([built[program] for program in PROGRAMS])
        return built | {program: pinned_name(built[program], ids[built[program]]) for program in PROGRAMS}

    def last_release_steps(self) -> list[Step]:
        """Return the steps that build the last release's images and bring them into the nodes."""
        return [
            Step("last", "Images of the last release", 20, self._build_last_release),
            Step("load-last", "The last release into the nodes", 10, self._load_last_release, needs=("last",)),
        ]

    def _last_release(self) -> dict[str, AppImage]:
        return release_images(provide_sources(self.places), self._present(PYTHON))

    def _build_last_release(self) -> None:
        for image in self._last_release().values():
            image.build()

    def _load_last_release(self) -> None:
        built = {part: image.name for part, image in self._last_release().items()}
        ids = identities(list(built.values()))
        self.last_images = {part: pinned_name(name, ids[name]) for part, name in built.items()}
        load_images({self.last_images[part]: name for part, name in built.items()}, self.places.log("load"))

    def write_facts(self) -> None:
        """Write build/cluster.json for the demo, the tests and `make run`."""
        images = self.images() | self.last_images
        facts = build_facts(self.places, images, self.cluster.kubectl_program)
        self.places.cluster_file.write_text(json.dumps(facts, indent=2) + "\n")


def build_facts(places: Places, images: dict[str, str], kubectl: str) -> dict[str, object]:
    """Return the contents of build/cluster.json. The kubeconfig's path is relative to the checkout."""
    return {
        "kubeconfig": str(places.kubeconfig.relative_to(places.root)),
        "kubectl": kubectl,
        "images": images,
        "node_ports": {"first": NODE_PORTS.first, "host_first": NODE_PORTS.host_first, "count": NODE_PORTS.count},
    }


def void(_: object) -> None:
    """Discard a value, because a step's action must return None."""


def remove_cluster(places: Places) -> bool:
    """Remove the cluster and its routes on this machine. Return False if no engine answers."""
    if not engine_answers():
        return False
    image = next((name for name in (LOCAL, PUBLIC) if image_id(name) is not None), None)
    cluster = Cluster(places, image or "", "", Path())
    cluster.delete()
    if image is not None:
        cluster.lower_walls()
    return True
