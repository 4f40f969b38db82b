"""Benchmarks: each figure is compared with something measured in the same run on the same machine.

No test depends on their times.
"""
