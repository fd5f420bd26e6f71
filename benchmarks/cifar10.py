"""CIFAR-10, 5,000 labels and 20,000 unlabelled images: what its three benchmarks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import draws
from benchmarks.protocol import Budget, Kind
from selftrain.config import Experiment, Fixed, Gate, PseudoLabel, Splitting, Student, Teacher

NAMES = "5,000 + 20,000"
VALIDATION = 0.1  # of the 5,000 labels
THRESHOLD = 0.5  # on calibrated probabilities, which the student learns from as they are
BATCH = 64
QUICK = Budget(seeds=1, teacher=2 * BATCH, student=24 * BATCH)
_FROM_SCRATCH: Mapping[str, Any] = {
    "batch_size": BATCH,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "ema": 0.995,
    "augmentation": "natural",
    "finish_steps": 0,  # all of the budget is for the steps
}
_STRENGTHS: Mapping[Kind, str] = {
    "cpu": "weak",  # a few dozen looks at each image: strong changes would slow it more than they teach
    "gpu": "strong",  # hundreds of them
}


def from_scratch(kind: Kind) -> dict[str, Any]:
    """The recipe's keys for a network that starts from nothing, within a budget of `kind`."""
    return {**_FROM_SCRATCH, "strength": _STRENGTHS[kind]}


def draw(seed: int, *, quick: bool) -> draws.Draw:
    """The same images for every seed: which of the labels are validation's, ingest decides by the splitting's seed."""
    return draws.cifar10(labeled=500, unlabeled=1_000, test=500) if quick else draws.cifar10()


def experiment(
    seed: int, budget: Budget, *, teacher: Mapping[str, Any], student: Mapping[str, Any], **others: Any
) -> Experiment:
    """`budget.rounds` students, whatever validation says, and the control; `others` are keys of the Experiment."""
    return Experiment(
        name="cifar10",
        seed=100 * seed,
        control="supervised",
        splitting=Splitting(validation=VALIDATION, seed=seed),
        teacher=Teacher(**teacher),
        student=Student(**student),
        pseudo_label=PseudoLabel(threshold=Fixed(value=THRESHOLD)),
        gate=Gate(target=1.0, min_rounds=budget.rounds, max_rounds=budget.rounds),
        **others,
    )
