"""Predictions of networks on splits, and every metric."""
