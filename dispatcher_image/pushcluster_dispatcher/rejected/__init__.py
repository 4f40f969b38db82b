"""`python -m pushcluster_dispatcher rejected`: read the queues of rejected messages, and publish their messages again.

Use `command.run`. `messages` decides what is published again.
"""
