"""How often does promotion refuse a model that lost nothing, and how often one that did?

Models are simulated. Each answers the same images of ten classes; a seeded generator says on which it is right, and
how sure it is. No network is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.record import Check, Result
from selftrain.config import Registry
from selftrain.evaluate.detail import DetailedComparison, compare_in_detail

CLASSES, IMAGES, PAIRS = 10, 1000, 400
Probs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """A model: `spread` are the parameters of the Beta distribution of its confidences between a half and 1.

    It is right as often as it claims, less `too_sure`; on the first class, less `lost` as well.
    """

    spread: tuple[float, float]
    too_sure: float = 0.0
    lost: float = 0.0

    def answers(self, truth: npt.NDArray[np.int64], rng: np.random.Generator) -> Probs:
        """Probabilities (n, classes) of images of the classes `truth` (n,)."""
        confidence = 0.5 + 0.5 * rng.beta(*self.spread, len(truth))
        share = confidence - self.too_sure - self.lost * (truth == 0)
        right = rng.random(len(truth)) < share
        said = np.where(right, truth, (truth + rng.integers(1, CLASSES, len(truth))) % CLASSES)
        rest = (1 - confidence) / (CLASSES - 1)
        return np.where(np.arange(CLASSES) == said[:, None], confidence[:, None], rest[:, None])


EVEN, SURE = (3.0, 1.0), (30.0, 0.6)


def measure(*, quick: bool) -> Result:
    """Both rules on pairs of models, on as many images as a small test set has."""
    pairs = 20 if quick else PAIRS
    same = compared(Simulated(EVEN), Simulated(EVEN), pairs=pairs)
    wider = compared(Simulated(EVEN), Simulated(SURE), pairs=pairs)
    too_sure = compared(Simulated(SURE, too_sure=0.05), Simulated(SURE), pairs=pairs)
    fallen = compared(Simulated(SURE, lost=0.2), Simulated(SURE), pairs=pairs)
    return Result(
        checks=(
            Check(what="refused for a class, no class fell", measured=class_fell(same), relation="<=", target=0.05),
            Check(
                what="refused for a class, one fell by 20 points",
                measured=class_fell(fallen),
                relation=">=",
                target=0.9,
            ),
            Check(
                what="refused for calibration, as calibrated", measured=miscalibrated(same), relation="<=", target=0.05
            ),
            Check(
                what="refused for calibration, as calibrated and less sure",
                measured=miscalibrated(wider),
                relation="<=",
                target=0.05,
            ),
            Check(
                what="refused for calibration, 5 points too sure",
                measured=miscalibrated(too_sure),
                relation=">=",
                target=0.9,
            ),
        ),
        details={"classes": CLASSES, "images": IMAGES, "pairs": pairs},
    )


def compared(model: Simulated, champion: Simulated, *, pairs: int) -> list[DetailedComparison]:
    """`pairs` comparisons of the two, each on images of its own."""
    names = tuple(f"class {index}" for index in range(CLASSES))
    truth = np.arange(IMAGES) % CLASSES
    generators = [np.random.default_rng(seed) for seed in range(pairs)]
    return [
        compare_in_detail(truth, model.answers(truth, rng), champion.answers(truth, rng), class_names=names)
        for rng in generators
    ]


def class_fell(found: list[DetailedComparison]) -> float:
    """The share of comparisons in which some class fell significantly."""
    return float(np.mean([any(each.fell(Registry().alpha) for each in one.per_class) for one in found]))


def miscalibrated(found: list[DetailedComparison]) -> float:
    """The share of comparisons whose calibration is clearly worse."""
    margin = Registry().calibration_margin or 0.0
    return float(np.mean([one.calibration.difference_interval.low > margin for one in found]))
