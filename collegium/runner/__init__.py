"""Carries out one run: setup and checks, training, final evaluation, record."""
