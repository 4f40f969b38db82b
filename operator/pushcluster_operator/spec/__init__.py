"""What the author of a PushCluster asks for, read from its JSON into frozen values with every default filled in.

Use `PushCluster.from_api` or `PushCluster.from_body`; nothing behind them looks into a dict.
"""
