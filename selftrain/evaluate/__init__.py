"""Evaluation: metrics, intervals, significance."""
