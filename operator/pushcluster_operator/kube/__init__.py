"""Kubernetes objects: the client, their names, labels and secrets, and the plan from the live to the desired children.

Use `KubeClient` for the API, `plan_children` for the steps, and `Leader` for the Lease.
"""
