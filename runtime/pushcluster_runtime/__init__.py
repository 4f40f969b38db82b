"""What the programs share: AMQP, Redis, settings, logs, the admin server, and start and end of the process.

It knows none of the programs.
"""
