"""A report reads records, nothing else."""
