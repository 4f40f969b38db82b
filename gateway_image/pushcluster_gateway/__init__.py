"""The gateway: holds users' WebSocket connections, and pushes to them what the log has for them."""
