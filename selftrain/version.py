"""The version of selftrain, which models, records and messages carry."""

from __future__ import annotations

__version__ = "0.1.0"
