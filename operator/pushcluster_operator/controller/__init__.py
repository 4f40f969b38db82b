"""The control loop. Watches fill the work queue; each reconcile reads everything anew, decides and applies.

Use `Reconciler`, `WorkQueue` and `build_registry`; `main` puts them together.
"""
