"""Methods compared: the same splits, starts, batches and views, seed by seed."""
