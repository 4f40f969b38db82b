"""The control loop: watches fill the work queue, and each reconcile reads everything fresh, decides and applies.

Use `Reconciler`, `WorkQueue` and `build_registry`; `main` puts them together.
"""
