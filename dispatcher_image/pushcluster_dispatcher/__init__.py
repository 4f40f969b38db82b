"""The dispatcher: takes published messages from ingress, writes them to users' logs, and sends copies to gateways.

Steps D0 to D6 of the message path, and the HTTP API for producers.
"""
