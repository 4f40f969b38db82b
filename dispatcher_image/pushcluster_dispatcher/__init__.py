"""The dispatcher: takes published messages from ingress, writes them to users' logs, and sends copies to gateways.

It also serves the HTTP API for producers.
"""
