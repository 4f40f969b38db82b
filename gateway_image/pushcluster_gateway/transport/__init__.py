"""Sockets: handshakes, admission, eviction, the outbox of each client, and the timer wheel. It does not know STOMP.

Use `WebSocketServer` to listen, and implement `SocketHandler` to speak over a connection.
"""
