"""The command line: `python3 -m local_cluster COMMAND`."""

import argparse
import fcntl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from local_cluster.browser import ensure_chromium
from local_cluster.engine import ensure_engine, stop_own_engine
from local_cluster.errors import CannotContinue
from local_cluster.settings import NODE_PORTS, Places, current_places
from local_cluster.steps import Reporter, describe_duration, run_steps
from local_cluster.workflow import Workflow, remove_cluster


def _docker(places: Places, reporter: Reporter, _: argparse.Namespace) -> None:
    ensure_engine(places, reporter)
    reporter.say("Docker answers.")


def _chromium(places: Places, reporter: Reporter, _: argparse.Namespace) -> None:
    ensure_chromium(places, reporter)


def _images(places: Places, reporter: Reporter, options: argparse.Namespace) -> None:
    flow = Workflow(places, reporter)
    steps = [flow.engine_step(), *flow.data_plane_steps()]
    if options.only is None:
        steps += flow.app_steps()
    run_steps(steps, reporter)


def _up(places: Places, reporter: Reporter, _: argparse.Namespace) -> None:
    began = time.monotonic()
    flow = Workflow(places, reporter)
    steps = [
        flow.engine_step(),
        *flow.node_steps(),
        *flow.data_plane_steps(),
        *flow.app_steps(),
        *flow.cluster_steps(),
    ]
    run_steps(steps, reporter)
    flow.write_facts()
    _tell_changed(flow, reporter)
    host = NODE_PORTS.host_ports()
    reporter.say(
        f"The cluster is up after {describe_duration(time.monotonic() - began)}. KUBECONFIG={places.kubeconfig}. "
        f"Node ports from {NODE_PORTS.first} on are reachable at 127.0.0.1:{host[0]} to {host[-1]}."
    )


def _running(places: Places, reporter: Reporter) -> Workflow:
    """Return the workflow of a cluster that can load images. Raises CannotContinue without one."""
    flow = Workflow(places, reporter)
    if not flow.cluster.is_well():
        raise CannotContinue("There is no cluster to load images into. Run `python3 -m local_cluster up`.")
    return flow


def _load(places: Places, reporter: Reporter, _: argparse.Namespace) -> None:
    flow = _running(places, reporter)
    steps = [
        flow.engine_step(),
        *flow.data_plane_steps(),
        *flow.app_steps(),
        flow.load_step("redis", "rabbitmq", "apps"),
    ]
    run_steps(steps, reporter)
    flow.write_facts()
    _tell_changed(flow, reporter)


def _last_release(places: Places, reporter: Reporter, _: argparse.Namespace) -> None:
    flow = _running(places, reporter)
    run_steps(flow.last_release_steps(), reporter)
    flow.write_facts()


def _tell_changed(flow: Workflow, reporter: Reporter) -> None:
    if flow.changed:
        reporter.say(f"These images changed in the nodes. Restart the pods that run them: {', '.join(flow.changed)}")


def _down(places: Places, reporter: Reporter, options: argparse.Namespace) -> None:
    if remove_cluster(places):
        reporter.say("The cluster is removed. Images and caches stay for the next time.")
    else:
        reporter.say("No Docker engine answers, so no cluster is running.")
    if options.docker:
        stopped = stop_own_engine(places)
        reporter.say("dockerd is stopped." if stopped else "No dockerd is running that was started from here.")


_COMMANDS: dict[str, tuple[Callable[[Places, Reporter, argparse.Namespace], None], str]] = {
    "docker": (_docker, "make sure that a Docker engine answers"),
    "images": (_images, "pull or build the images"),
    "up": (_up, "create the cluster, or bring it up to date"),
    "load": (_load, "rebuild the programs' images and load them into the running cluster"),
    "last-release": (_last_release, "build the last release's gateway and dispatcher and load them into the cluster"),
    "down": (_down, "remove the cluster"),
    "chromium": (_chromium, "make sure that Chromium is installed"),
}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line. Exits with a usage message if it is invalid."""
    parser = argparse.ArgumentParser(
        prog="python3 -m local_cluster", description="A Kubernetes cluster on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name, help=text) for name, (_, text) in _COMMANDS.items()}
    parsers["images"].add_argument("--only", choices=["data-plane"], help="only Redis and RabbitMQ")
    parsers["down"].add_argument(
        "--docker", action="store_true", help="also stop the dockerd that was started from here"
    )
    return parser.parse_args(arguments)


@contextmanager
def alone(places: Places, reporter: Reporter) -> Iterator[None]:
    """Let only one command at a time work on this user's engine, cluster and cache. Others wait."""
    places.cache.mkdir(parents=True, exist_ok=True)
    with (places.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.say("Another command of local_cluster is running. Waiting until it ends.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    options = parse_arguments(arguments)
    reporter = Reporter()
    places = current_places()
    try:
        with alone(places, reporter):
            _COMMANDS[options.command][0](places, reporter, options)
    except CannotContinue as error:
        reporter.warn(str(error))
        return 1
    except KeyboardInterrupt:
        reporter.warn("Interrupted. Run the command again to continue where it stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
