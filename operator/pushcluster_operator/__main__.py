"""`python -m pushcluster_operator`."""

import sys

from pushcluster_operator.main import main

sys.exit(main())
