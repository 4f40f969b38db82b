"""The gateway: holds users' WebSocket connections and pushes the messages in their logs to them."""
