"""`python -m pushcluster_dispatcher` runs a dispatcher. With `rejected`, it is a tool for a person instead."""

import os
import sys

from pushcluster_contract.errors import InvalidInput
from pushcluster_dispatcher.main import PROGRAM, main
from pushcluster_dispatcher.rejected import command
from pushcluster_dispatcher.settings import Settings
from pushcluster_runtime.process import EXIT_SETTINGS, run
from pushcluster_runtime.settings import EnvironmentVariables


def run_tool() -> int:
    """Run the tool with the dispatcher's settings, and return its exit code."""
    try:
        settings = Settings.from_environment(EnvironmentVariables(os.environ))
    except InvalidInput as error:
        sys.stderr.write(f"{error}; run this where a dispatcher runs\n")
        return EXIT_SETTINGS
    return command.run(sys.argv[2:], settings.amqp_url)


sys.exit(run_tool() if sys.argv[1:2] == ["rejected"] else run(PROGRAM, Settings.from_environment, main))
