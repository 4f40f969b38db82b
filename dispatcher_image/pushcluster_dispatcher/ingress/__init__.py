"""The ingress queues: consuming a partition, and acknowledging it once its messages are safe.

Use `IngressConsumer`; it runs a `PartitionSession` for each partition.
"""
