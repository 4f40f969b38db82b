"""The operator: turns each PushCluster into RabbitMQ, Redis, gateways and dispatchers, and removes stale sessions.

`spec` is what an author asks for, `children` what is made of it, `kube` the way to the API server. `controller`
reconciles, `sweep` removes stale sessions, `status` says how a PushCluster is doing, and `main` runs them all.
"""
