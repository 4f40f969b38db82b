"""The data plane on this machine, without Kubernetes. `make run` and the integration tests use it."""
