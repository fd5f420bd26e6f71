"""Target precision: the lowest cut-off at which held-out human labels confirm the wanted precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.coverage import STEPS, HeldOut, candidate_cutoffs, counts_above
from selftrain.evaluate.statistics.exact import fewest_images, lower_bound

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reached:
    """The cut-off that was reached, infinite where none passed, and what was measured there.

    `right` of `images` held-out images are right at the cut-off. If none passed, the counts are those of the first
    cut-off tested. Both are 0 if there were too few images to test any. `bound` is the lower confidence bound of that
    precision.
    """

    cutoff: float
    images: int
    right: int
    bound: float

    @property
    def passed(self) -> bool:
        """Whether any cut-off passed."""
        return math.isfinite(self.cutoff)


@dataclass(frozen=True)
class GroupCutoff:
    """The cut-off for `classes` (indices), which have `held_out` held-out predictions together."""

    classes: tuple[int, ...]
    held_out: int
    reached: Reached


def lowest_cutoff(
    pool: Floats, confidence: Floats, right: Mask, *, target: float, alpha: float = 0.05, steps: int = STEPS
) -> Reached:
    """The lowest cut-off on `pool` (m,) at which held-out answers (`confidence`, `right`: (n,)) are precise enough.

    Fixed-sequence testing, Learn then Test (arXiv:2110.01052), section 2.3, with the Clopper-Pearson bound as test. The
    candidates are the confidences of the most confident 1 %, 2 %, ... of the pool, tested from the highest down. The
    walk starts at the first candidate that enough held-out images reach: a third of them, and as many as any test needs
    (`fewest_images`). With fewer, one unlucky answer would end the walk of a good teacher. The walk continues while the
    lower bound is at least `target`. The last candidate that passed is the answer. Nothing below the first failure is
    accepted, however good it looks, so testing many candidates needs no correction. If too few held-out images reach
    even the pool's lowest confidence, the only candidate is 0. The whole pool is then accepted if all held-out images
    together pass.

    What holds, if held-out and pool images come from the same distribution: the candidates come from the pool. So each
    test is of a fixed cut-off, and the number of right answers above it is binomial. An accepted precision is below the
    target only if the first cut-off on the walk whose true precision is below it passed. The probability of that is at
    most alpha. The start of the walk depends on how many held-out images are above a cut-off, not on whether they are
    right. This keeps the level if images between two cut-offs are not right more often than those above them. Without
    that assumption, a confidence would mean nothing.

    What does not hold: the bound says nothing about images unlike the held-out ones. A teacher that was chosen by these
    same labels looks a little better on them than it is.
    """
    fewest = max(fewest_images(target, alpha=alpha), len(confidence) // 3)
    if not len(pool) or len(confidence) < fewest:
        return Reached(math.inf, 0, 0, 0.0)
    cutoffs = candidate_cutoffs(pool, steps=steps)
    if counts_above(confidence, cutoffs[-1:]) < fewest:
        cutoffs = np.zeros(1, np.float32)
    images = counts_above(confidence, cutoffs)
    start = int((images >= fewest).argmax())
    cutoffs, images = cutoffs[start:], images[start:]
    correct = counts_above(confidence, cutoffs, of=right)
    bounds = lower_bound(correct, images, alpha=alpha)
    passed = bounds >= target
    walked = len(passed) if passed.all() else int(passed.argmin())
    at = max(0, walked - 1)
    cutoff = float(cutoffs[at]) if walked else math.inf
    return Reached(cutoff, int(images[at]), int(correct[at]), float(bounds[at]))


def groups_of(predictions: Ints, *, fewest: int) -> tuple[tuple[int, ...], ...]:
    """Groups of classes that are judged together, from the counts of held-out `predictions` (classes,).

    A class with at least `fewest` is a group of its own. The others are one group. While that group has fewer than
    `fewest`, the next smallest class joins it.

    >>> groups_of(np.array([40, 10, 25, 50]), fewest=30)
    ((0,), (3,), (1, 2))
    >>> groups_of(np.array([40, 10, 15, 50]), fewest=30)
    ((3,), (0, 1, 2))
    """
    order = np.argsort(predictions, kind="stable")
    together = int(np.count_nonzero(predictions < fewest))
    while together and together < len(order) and predictions[order[:together]].sum() < fewest:
        together += 1
    alone = tuple((index,) for index in sorted(order[together:].tolist()))
    return (*alone, tuple(sorted(order[:together].tolist()))) if together else alone


def rules(
    confidence: Floats,
    predicted: Ints,
    held_out: HeldOut,
    *,
    target: float,
    alpha: float = 0.05,
    per_class: bool = True,
) -> tuple[GroupCutoff, ...]:
    """One cut-off per group of classes, for a pool's `confidence` (m,) and `predicted` classes (m,).

    The groups are `groups_of` the held-out predictions, or all classes together without `per_class`. If several groups
    find no cut-off of their own, they are tested once more as one group.

    Each rule holds at level 1 - alpha for its group as a whole. Of many groups, a share of alpha may miss the target.
    The second test does not break that, because it follows only after the first ones failed. If answers are
    independent, a failure makes right answers less likely, and so makes it less likely that the second test passes
    (Harris 1960).
    """
    classes = held_out.probs.shape[1]

    def cutoff_of(group: tuple[int, ...]) -> GroupCutoff:
        member = np.zeros(classes, np.bool_)
        member[list(group)] = True
        pool, held = confidence[member[predicted]], member[held_out.predicted]
        reached = lowest_cutoff(pool, held_out.confidence[held], held_out.right[held], target=target, alpha=alpha)
        return GroupCutoff(group, int(held.sum()), reached)

    if not per_class:
        return (cutoff_of(tuple(range(classes))),)
    counts = np.bincount(held_out.predicted, minlength=classes)
    return group_cutoffs(groups_of(counts, fewest=fewest_images(target, alpha=alpha)), cutoff_of)


def group_cutoffs(
    groups: Iterable[tuple[int, ...]], cutoff_of: Callable[[tuple[int, ...]], GroupCutoff]
) -> tuple[GroupCutoff, ...]:
    """The cut-off of each of `groups`; if several find none, they are tested once more as one group (see `rules`)."""
    first = [cutoff_of(group) for group in groups]
    failures = [rule for rule in first if not rule.reached.passed]
    if len(failures) < 2:
        return tuple(first)
    together = cutoff_of(tuple(sorted(index for rule in failures for index in rule.classes)))
    return (*(rule for rule in first if rule.reached.passed), together)


def rule_cutoffs(rules: Iterable[GroupCutoff], *, classes: int) -> Floats:
    """The confidence each class needs, float32 (classes,); infinite where nothing is accepted."""
    values = np.full(classes, np.inf, np.float32)
    for rule in rules:
        values[list(rule.classes)] = rule.reached.cutoff
    return values


def precision_findings(
    rules: Iterable[GroupCutoff], *, target: float, class_names: tuple[str, ...], alpha: float = 0.05
) -> tuple[str, ...]:
    """Findings for the record: which classes share a threshold, and why nothing is accepted as some of them."""
    fewest = fewest_images(target, alpha=alpha)
    findings = []
    for rule in rules:
        names = _named(rule.classes, class_names)
        reached = rule.reached
        if len(rule.classes) > 1:
            findings.append(
                f"{names} share a threshold, measured on their {rule.held_out} held-out predictions together"
            )
        if rule.held_out < fewest:
            why = (
                f"{rule.held_out} held-out predictions, and a precision of {target:g} needs {fewest}, all of them right"
            )
        elif not reached.images:
            why = "no image of the pool has such a prediction"
        else:
            shown = f"{reached.right} of the {reached.images} most confident held-out predictions are right"
            why = f"{shown}, which shows a precision of {reached.bound:.3f}, not {target:g}"
        if not reached.passed:
            findings.append(f"nothing is accepted as {names}: {why}")
    return tuple(findings)


def _named(classes: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    if len(classes) == len(class_names):
        return "all classes" if len(classes) > 1 else class_names[0]
    shown = ", ".join(class_names[index] for index in classes[:5])
    return f"{shown} and {len(classes) - 5} more" if len(classes) > 5 else shown
