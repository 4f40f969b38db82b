"""The demo: a PushCluster on kind, shown step by step. The end-to-end tests use the same parts."""
