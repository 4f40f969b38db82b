"""A Kubernetes cluster on this machine for the demo and the end-to-end tests.

Run as `python3 -m local_cluster COMMAND` by any Python from 3.11 on, before a virtual environment
exists: nothing but the standard library may be imported here. Images come from their registries where
these answer, else from Debian's packages and Go modules; both ways end in the same cluster.
"""
