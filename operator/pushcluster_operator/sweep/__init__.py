"""The removal of sessions whose gateway process has ended.

Use `Sweeper`; `removals` decides, and `registry` is the connection to Redis.
"""
