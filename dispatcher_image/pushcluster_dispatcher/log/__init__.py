"""The users' logs in Redis: appending to them, and the barrier behind which an append is on disk.

Use `UserLog` to append, `Barrier` to wait for the disk, and `RedisLink` for the connection of either.
"""
