"""How often is a target precision reached on simulated teachers, and how much is accepted?

A teacher's answers are right with a chance p that is drawn from a beta distribution of its own, and it says p to a
power: calibrated, too sure or not sure enough. The naive rule takes the lowest cut-off that is right often enough on
the held-out images; the oracle sees all labels of the pool. Beside the targets the page shows both.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.record import Check, Result, Table
from benchmarks.rows import percent
from selftrain.evaluate.coverage import candidate_cutoffs, counts_above
from selftrain.selflabel.selection.target_precision import lowest_cutoff

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

TEACHERS, QUICK_TEACHERS = 300, 12  # at each number of held-out images
HELD_OUT = (100, 300, 1_000)
POOL = 4_000
TARGETS = (0.90, 0.95)
POWERS = (1.0, 0.3, 2.5)  # of what a teacher says: calibrated, too sure, not sure enough
WORTH = ((8.0, 0.5), (4.0, 1.0), (3.0, 0.5), (2.0, 1.0))  # beta distributions of the chance to be right
ALPHA = 0.05
COLUMNS = ("target", "held out", "misses", "naive misses", "accepts of the oracle's", "accepts of the pool")


@dataclass(frozen=True)
class Answers:
    """Confidences (n,) and whether the answers are right (n,)."""

    confidence: Floats
    right: Mask


@dataclass(frozen=True)
class Ended:
    """One teacher: whether each rule ended below the target, and the shares of the pool that are taken."""

    missed: bool
    naive_missed: bool
    taken: float
    oracle: float


def measure(*, quick: bool) -> Result:
    """Every target at every number of held-out images, on the same teachers."""
    teachers = QUICK_TEACHERS if quick else TEACHERS
    cells = {
        (target, held): [_ended(np.random.default_rng([k, held]), held, target) for k in range(teachers)]
        for target in TARGETS
        for held in HELD_OUT
    }
    checks = tuple(
        Check(
            what=f"target {target:g}, {held} held out: share of {teachers} teachers that miss it",
            measured=statistics.mean(each.missed for each in every),
            relation="<=",
            target=ALPHA,
        )
        for (target, held), every in cells.items()
    )
    rows = tuple(_cells(target, held, every) for (target, held), every in cells.items())
    table = Table(
        title="Shares of the teachers that end below the target, and mean shares accepted", columns=COLUMNS, rows=rows
    )
    return Result(checks=checks, details={"teachers": teachers, "pool": POOL}, tables=(table,))


def _ended(rng: np.random.Generator, held_out: int, target: float) -> Ended:
    a, b = WORTH[rng.integers(len(WORTH))]
    power = POWERS[rng.integers(len(POWERS))]
    shown, pool = (_answers(rng, images, a, b, power) for images in (held_out, POOL))
    ours = lowest_cutoff(pool.confidence, shown.confidence, shown.right, target=target, alpha=ALPHA).cutoff
    taken = pool.confidence >= ours
    naively = pool.confidence >= _lowest(pool.confidence, shown, target)
    best = pool.confidence >= _lowest(pool.confidence, pool, target)
    return Ended(_misses(pool, taken, target), _misses(pool, naively, target), float(taken.mean()), float(best.mean()))


def _answers(rng: np.random.Generator, images: int, a: float, b: float, power: float) -> Answers:
    chance = rng.beta(a, b, images)
    return Answers((chance**power).astype(np.float32), rng.random(images) < chance)


def _lowest(pool: Floats, shown: Answers, target: float) -> float:
    """The lowest candidate above which `shown` is right in a share of at least `target`, infinite if there is none."""
    cutoffs = candidate_cutoffs(pool)
    images = counts_above(shown.confidence, cutoffs)
    right = counts_above(shown.confidence, cutoffs, of=shown.right)
    passed = cutoffs[(images > 0) & (right >= target * images)]
    return float(passed.min()) if passed.size else math.inf


def _misses(pool: Answers, taken: Mask, target: float) -> bool:
    return bool(taken.any()) and float(pool.right[taken].mean()) < target


def _cells(target: float, held_out: int, every: list[Ended]) -> tuple[str, ...]:
    """A row of the table, in per cent; teachers of whose answers nobody could take any count for nothing taken."""
    possible = [each for each in every if each.oracle > 0]
    shares = (
        statistics.mean(each.missed for each in every),
        statistics.mean(each.naive_missed for each in every),
        sum(each.taken for each in possible) / sum(each.oracle for each in possible),
        statistics.mean(each.taken for each in every),
    )
    return (f"{target:g}", str(held_out), *(f"{percent(share)} %" for share in shares))
