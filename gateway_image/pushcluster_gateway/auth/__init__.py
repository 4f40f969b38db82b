"""Who a client is: tokens, their claims, and the keys that they are verified with.

Use `Authenticator` to identify a CONNECT, and `KeyRefresher` to keep its keys fresh.
"""
