"""What the programs of a PushCluster promise each other: names, keys, limits and scripts.

Nothing here does I/O, reads a clock or makes a random number. Programs import this package and never each other.
"""
