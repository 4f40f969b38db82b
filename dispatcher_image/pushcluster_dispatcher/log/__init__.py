"""The users' logs in Redis: append to them, and wait until the appends are on disk.

Use `UserLog` to append, `Barrier` to wait for the disk, and `RedisLink` for the connection of either.
"""
