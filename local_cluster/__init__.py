"""A Kubernetes cluster on this machine for the demo and the end-to-end tests.

Run it as `python3 -m local_cluster COMMAND` with Python 3.11 or newer. It runs before a virtual environment exists, so
it may import only the standard library. Images come from their registries where these answer. Elsewhere they are built
from Debian's packages and Go modules. Both ways give the same cluster.
"""
