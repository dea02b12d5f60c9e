"""Reports: one HTML page about runs or comparisons."""
