"""Does a pretrained student beat its smaller teacher and its control with 20 labels per class?"""

from __future__ import annotations

from benchmarks import flowers
from benchmarks.protocol import Asked
from benchmarks.record import Result


def measure(asked: Asked) -> Result:
    """A loop and its control a seed."""
    return flowers.measured_few(asked)
