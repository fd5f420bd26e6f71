"""Target precision: the lowest confidence above which held-out human labels show that enough answers are right."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.coverage import STEPS, HeldOut, candidate_cutoffs, counts_above
from selftrain.evaluate.exact import fewest_images, lower_bound

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reached:
    """The cut-off that was reached, infinite where none passed, and what was measured there.

    `right` of `images` held-out images are right at the cut-off, or where none passed, at the first one tested; no
    image at all where there were too few to test any. `bound` is the lower end of that precision.
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
    """The lowest cut-off on `pool` (m,) that keeps the precision of held-out `confidence` (n,), `right` (n,), high.

    Fixed-sequence testing, Learn then Test (arXiv:2110.01052), section 2.3, with the Clopper-Pearson bound as test. The
    candidates are the confidences of the most confident 1 %, 2 %, ... of the pool. They are walked from the highest
    down, from the first that a third of the held-out images reach, and as many as any test takes (`fewest_images`): at
    fewer, one unlucky answer would end the walk of a good teacher. It goes on while the lower bound is at least
    `target`; the last candidate that passed is the answer. None below the first failure is taken, however good it
    looks, and that is why testing many costs nothing. Of a pool that is surer than that many held-out images, the one
    candidate is 0: all of it, if the held-out images are right as a whole.

    What holds: let held-out and pool images be drawn alike. The candidates come from the pool, so each test is of a
    fixed cut-off, and right answers above it are binomial. An accepted precision is below the target only if the first
    walked cut-off whose true precision is below it passed, which happens with a probability of at most alpha. Where the
    walk starts depends on how many held-out images are above a cut-off, not on whether they are right; that keeps the
    level as long as images between two cut-offs are not more often right than those above them, the same assumption
    under which a confidence means anything. What does not hold: nothing is said of images unlike the held-out ones, and
    a teacher that was chosen by these very labels looks a little better on them than it is.
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
    """Classes that are judged together, given their held-out `predictions` (classes,): each alone that has `fewest`.

    The others are one group; while that has fewer than `fewest`, the next smallest class joins it.

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
    """A rule a group of classes for a pool's `confidence` (m,) and `predicted` classes (m,).

    The groups are `groups_of` the held-out predictions, or all classes together without `per_class`. Groups whose own
    walk ends in nothing are, if there are several, one more group that walks once.

    Each rule holds at level 1 - alpha for its group as a whole; of many groups, a share of alpha may miss the target.
    A second walk does not break that: it is taken after the first ones failed, and given independent answers a failure
    makes right answers, and so a second walk that passes, less likely (Harris 1960).
    """
    classes = held_out.probs.shape[1]

    def walked(group: tuple[int, ...]) -> GroupCutoff:
        member = np.zeros(classes, np.bool_)
        member[list(group)] = True
        ours, theirs = member[predicted], member[held_out.predicted]
        reached = lowest_cutoff(
            confidence[ours], held_out.confidence[theirs], held_out.right[theirs], target=target, alpha=alpha
        )
        return GroupCutoff(group, int(theirs.sum()), reached)

    if not per_class:
        return (walked(tuple(range(classes))),)
    counts = np.bincount(held_out.predicted, minlength=classes)
    made = [walked(group) for group in groups_of(counts, fewest=fewest_images(target, alpha=alpha))]
    failed = [rule for rule in made if not rule.reached.passed]
    if len(failed) < 2:
        return tuple(made)
    together = walked(tuple(sorted(index for rule in failed for index in rule.classes)))
    return (*(rule for rule in made if rule.reached.passed), together)


def rule_cutoffs(made: Iterable[GroupCutoff], *, classes: int) -> Floats:
    """The confidence each class needs, float32 (classes,); infinite where nothing of it is accepted."""
    values = np.full(classes, np.inf, np.float32)
    for rule in made:
        values[list(rule.classes)] = rule.reached.cutoff
    return values


def precision_findings(
    made: Iterable[GroupCutoff], *, target: float, class_names: tuple[str, ...], alpha: float = 0.05
) -> tuple[str, ...]:
    """What the record must say of the rules: which classes were pooled, and of which nothing is accepted, and why."""
    fewest = fewest_images(target, alpha=alpha)
    found = []
    for rule in made:
        names = _named(rule.classes, class_names)
        reached = rule.reached
        if len(rule.classes) > 1:
            found.append(f"{names} share a threshold, measured on their {rule.held_out} held-out predictions together")
        if rule.held_out < fewest:
            why = (
                f"{rule.held_out} held-out predictions, and a precision of {target:g} takes {fewest} that are all right"
            )
        elif not reached.images:
            why = "no image of the pool is predicted so"
        else:
            shown = f"{reached.right} of the {reached.images} surest held-out predictions are right"
            why = f"{shown}, which shows a precision of {reached.bound:.3f}, not {target:g}"
        if not reached.passed:
            found.append(f"nothing is accepted as {names}: {why}")
    return tuple(found)


def _named(classes: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    if len(classes) == len(class_names):
        return "all classes" if len(classes) > 1 else class_names[0]
    shown = ", ".join(class_names[index] for index in classes[:5])
    return f"{shown} and {len(classes) - 5} more" if len(classes) > 5 else shown
