"""The operator: turns each PushCluster into RabbitMQ, Redis, gateways and dispatchers, and removes stale sessions.

Pure modules decide (`spec`, `children`, `plan`, `drift`, `conditions`, `status`, `sessions`); thin shells act
(`kube`, `registry`, `reconciler`, `sweeper`, `leader`, `main`).
"""
