"""Redis, for one gateway: its lease, the entries of its sessions, the users' logs, and the cursors.

Use `SessionRegistry` for single calls, `LeaseKeeper` to hold the lease, and `CursorFlusher` to write cursors.
"""
