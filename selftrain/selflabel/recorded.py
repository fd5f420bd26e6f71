"""Recorded: a loop that came to its end as the record that `selftrain status` shows."""

from __future__ import annotations
