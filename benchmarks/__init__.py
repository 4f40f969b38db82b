"""Benchmarks: each figure is a ratio to something measured in the same run on the same machine. Never a timed test."""
