"""Pipelines: they connect the steps, and decide nothing."""
