"""Functions that return a run to repeat."""
