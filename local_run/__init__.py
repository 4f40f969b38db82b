"""The data plane on this machine, without Kubernetes: what `make run` starts and the integration tests stand on."""
