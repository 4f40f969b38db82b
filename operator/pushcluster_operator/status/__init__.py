"""What a PushCluster's status says: conditions, counts and Events, decided from what was observed. No I/O.

Use `build_conditions` and `build_status`; the other modules each find one kind of trouble.
"""
