"""Helpers that know nothing of distillation."""
