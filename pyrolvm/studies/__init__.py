"""Sweeps: a grid of configurations, one run folder a cell, one tidy table."""
