"""Benchmarks: what selftrain takes, beside what a user would run instead, measured in the same run and recorded."""
