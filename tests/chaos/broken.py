"""A program with one of the simulation's mutants in it: `python -m tests.chaos.broken gateway|dispatcher <mutant>`."""

import sys

from pushcluster_dispatcher import main as dispatcher
from pushcluster_dispatcher.settings import Settings
from pushcluster_gateway import main as gateway
from pushcluster_runtime.process import run
from tests.simulation.mutants import MUTANTS


def main(program: str, mutant: str) -> int:
    """Run it and return its exit code."""
    with MUTANTS[mutant]():
        if program == "gateway":
            return gateway.main()
        return run(dispatcher.PROGRAM, Settings.from_environment, dispatcher.main)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
