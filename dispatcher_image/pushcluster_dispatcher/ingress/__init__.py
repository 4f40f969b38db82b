"""The ingress queues: consume each partition, and acknowledge its messages once they are safe.

Use `IngressConsumer`; it runs a `PartitionSession` for each partition.
"""
