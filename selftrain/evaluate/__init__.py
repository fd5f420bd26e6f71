"""Evaluation: metrics, intervals, significance and promotion."""
