"""Runs worth repeating, as functions that return one."""
