"""Choosing boxes: the score that each class needs, given or measured on labelled images, and what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from selftrain.config import Fixed, PerClass, TargetPrecision
from selftrain.errors import ConfigError
from selftrain.evaluate.average_precision import Boxes, judge
from selftrain.evaluate.coverage import MeasuredPrecision
from selftrain.evaluate.statistics.exact import fewest_images
from selftrain.selflabel.selection.target_precision import (
    GroupCutoff,
    group_cutoffs,
    groups_of,
    lowest_cutoff,
    precision_findings,
    rule_cutoffs,
)

Floats = npt.NDArray[np.float32]
BoxThreshold = Fixed | PerClass | TargetPrecision
LOWEST = 0.05
"""Boxes below this score are not looked at when a threshold is chosen by precision."""


@dataclass(frozen=True, eq=False)
class Held:
    """The detector's boxes in labelled images: `scores` (n,), `classes` (n,), and whether each is `right` (n,).

    `objects` (classes,) counts what people marked there.
    """

    scores: Floats
    classes: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]

    def above(self, least: float) -> Held:
        """Those with at least the score `least`."""
        kept = self.scores >= least
        return replace(self, scores=self.scores[kept], classes=self.classes[kept], right=self.right[kept])

    def measured(self, least: Floats, accepted: int, pool: int, name: int | None = None) -> MeasuredPrecision:
        """The precision of the boxes with at least the score of their class (classes,), of one class or all."""
        kept = self.scores >= least[self.classes]
        if name is not None:
            kept &= self.classes == name
        return MeasuredPrecision(
            accepted=accepted, pool=pool, images=int(kept.sum()), right=int(self.right[kept].sum())
        )


def judged(found: Sequence[Boxes], marked: Sequence[Boxes], *, classes: int) -> Held:
    """The boxes found in each labelled image beside what people marked there; those in crowds do not count.

    A box is right where it overlaps an object of its class by half, and no box with a higher score does.
    """
    parts, every = [], judge(found, marked, classes=classes).classes
    for name, each in enumerate(every):
        counts = each.counts[:, 0]
        parts.append((each.scores[counts], np.full(int(counts.sum()), name), each.right[counts, 0]))
    scores, names, right = (np.concatenate([part[k] for part in parts]) for k in range(3))
    return Held(scores, names, right, np.array([each.marked.sum() for each in every], np.int64))


def least_scores(
    rule: BoxThreshold, class_names: tuple[str, ...], scores: Floats, classes: npt.NDArray[np.int64], held: Held | None
) -> tuple[Floats, tuple[str, ...]]:
    """The score that each class needs (classes,), infinite where nothing is accepted, and what to say about it.

    `scores` (m,) and `classes` (m,) are those of the boxes to choose from. Raises ConfigError for a class that does not
    exist.
    """
    count = len(class_names)
    match rule:
        case Fixed(value=value):
            return np.full(count, value or 0.0, np.float32), ()
        case PerClass(values=values, default=default):
            other = sorted(set(values) - set(class_names))
            if other:
                raise ConfigError(f"threshold: {other[0]!r} is not one of the classes {', '.join(class_names)}")
            return np.array([values.get(name, default) for name in class_names], np.float32), ()
    if held is None:
        raise ConfigError("threshold: a precision is measured on labelled images; give labeled= and images=")
    rules = _rules(rule, scores, classes, held, count)
    findings = precision_findings(rules, target=rule.target, class_names=class_names, alpha=rule.alpha)
    return rule_cutoffs(rules, classes=count), findings


def _rules(
    rule: TargetPrecision, scores: Floats, classes: npt.NDArray[np.int64], held: Held, count: int
) -> tuple[GroupCutoff, ...]:
    """A cut-off per class with enough boxes in the labelled images that could be right, and one for the others.

    A detector gives far more boxes of low scores than there are objects, and these cannot be precise. So the search
    begins with the best of them: as many as could be precise enough if every object were found. A class with fewer is
    not judged alone, however many boxes it has. Classes that fail alone are tested once more together.
    """
    held = held.above(LOWEST)
    fewest = fewest_images(rule.target, alpha=rule.alpha)

    def cutoff_of(group: tuple[int, ...]) -> GroupCutoff:
        own, mine = np.isin(held.classes, group), scores[np.isin(classes, group)]
        confidence, right = held.scores[own], held.right[own]
        most = max(fewest, int(held.objects[list(group)].sum() / rule.target))
        floor = float(np.partition(confidence, -most)[-most]) if len(confidence) > most else 0.0
        best = confidence >= floor
        reached = lowest_cutoff(
            mine[mine >= floor], confidence[best], right[best], target=rule.target, alpha=rule.alpha
        )
        return GroupCutoff(group, int(best.sum()), replace(reached, cutoff=max(reached.cutoff, floor)))

    everything = tuple(range(count))
    if not rule.per_class:
        return (cutoff_of(everything),)
    boxes = np.bincount(held.classes, minlength=count)
    useful = np.minimum(boxes, (held.objects / rule.target).astype(np.int64))
    useful[held.objects == 0] = boxes[held.objects == 0]  # all are wrong: such a class must not join a good one
    return group_cutoffs(groups_of(useful, fewest=fewest), cutoff_of)
