"""`python -m pushcluster_dispatcher`."""

import sys

from pushcluster_dispatcher.main import PROGRAM, main
from pushcluster_dispatcher.settings import Settings
from pushcluster_runtime.process import run

sys.exit(run(PROGRAM, Settings.from_environment, main))
