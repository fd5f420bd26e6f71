"""Is a pretrained student above its smaller pretrained teacher and its control on flowers, 20 labels a class?"""

from __future__ import annotations

from benchmarks import flowers
from benchmarks.protocol import Kind
from benchmarks.record import Result


def measure(*, quick: bool, kind: Kind) -> Result:
    """A loop and its control a seed."""
    return flowers.measured(flowers.FEW, quick=quick, kind=kind)
