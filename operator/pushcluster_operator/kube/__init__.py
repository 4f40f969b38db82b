"""Kubernetes objects: the client, their names, labels and secrets, and the plan from what is there to what is wanted.

Use `KubeClient` for the API, `plan_children` for the steps, and `Leader` for the Lease.
"""
