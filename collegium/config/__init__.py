"""The configuration of a run: options with their defaults, and when two runs are the same."""
