"""A dispatcher whose broker takes messages back early: `python -m tests.support.hasty_dispatcher <seconds>`.

It tries everything again more often, too, so that it does so between giving back and the limit.
"""

import random
import sys
from dataclasses import replace
from functools import partial
from typing import Final
from unittest.mock import patch

from pushcluster_dispatcher import main as dispatcher
from pushcluster_dispatcher.settings import Settings
from pushcluster_runtime.backoff import Backoff
from pushcluster_runtime.process import run
from pushcluster_runtime.settings import EnvironmentVariables

MAX_DELAY_S: Final = 0.5


def load(environment: EnvironmentVariables) -> Settings:
    """Return the settings, with the limit that was asked for."""
    return replace(Settings.from_environment(environment), consumer_timeout_s=float(sys.argv[1]))


if __name__ == "__main__":
    with patch.object(dispatcher, "new_backoff", partial(Backoff, random.random, max_s=MAX_DELAY_S)):
        sys.exit(run(dispatcher.PROGRAM, load, dispatcher.main))
