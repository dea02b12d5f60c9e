"""What runs and comparisons leave on disk."""
