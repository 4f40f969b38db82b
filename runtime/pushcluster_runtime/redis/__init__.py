"""Redis: the client with its scripts, a pipelined connection of our own, and the removal of an incarnation.

Use `connect` and `ScriptRunner` in general, and `RedisWire` where calls must keep their order.
"""
