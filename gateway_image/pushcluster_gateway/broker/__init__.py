"""RabbitMQ, for one gateway: its connection, the queues of its subscriptions, and the copies that arrive in them.

Use `BrokerLink` for the connection, `SubscriptionQueues` for the queues, and `CopyReader` for what they bring.
"""
