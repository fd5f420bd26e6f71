"""Does a pretrained student beat its pretrained teacher and its control with half of the labels?"""

from __future__ import annotations

from benchmarks import flowers
from benchmarks.protocol import Asked
from benchmarks.record import Result


def measure(asked: Asked) -> Result:
    """A loop and its control a seed."""
    return flowers.measured(flowers.HALF, asked)
