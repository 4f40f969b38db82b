"""`python -m pushcluster_gateway`."""

import sys

from pushcluster_gateway.main import main

sys.exit(main())
