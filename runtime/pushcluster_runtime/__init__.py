"""Shells that the programs share: AMQP, Redis, settings, logs, the admin server and the process's life.

The only place besides the operator that touches pika, redis, aiohttp's server and prometheus_client. Knows no program.
"""
