"""What leaves a dispatcher over AMQP: copies to gateways, and messages that are rejected.

Use `CopyPublisher` and `RejectPublisher`.
"""
