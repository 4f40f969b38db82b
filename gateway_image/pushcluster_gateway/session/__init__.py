"""One client's STOMP session and its subscriptions: what is delivered, acknowledged and due. No I/O.

Use `Client` for a session, `Subscription` for what it subscribed to, and `Hub` to find either.
"""
