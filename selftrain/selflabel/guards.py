"""Guards: what tells that self-training is going wrong, each an alarm with a reason and an action."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from selftrain.config import GuardName, Guards
from selftrain.errors import PredictionError
from selftrain.selflabel.alarms import Alarm
from selftrain.selflabel.pseudo_labels import PseudoLabels

Floats = npt.NDArray[np.float64]


def watch(
    guards: Guards, labels: PseudoLabels, *, prior: npt.ArrayLike, before: PseudoLabels | None = None
) -> tuple[Alarm, ...]:
    """The alarms of a round's pseudo-labels, asked before a student is trained on them.

    `prior` (classes,) counts the human training labels of each class; `before` are the round before's labels of the
    same pool, None in the first round. A guard whose limit is None is off. Raises PredictionError for a prior of
    another number of classes.
    """
    counts = np.asarray(prior, np.float64)
    if counts.shape != (len(labels.class_names),):
        raise PredictionError(f"the prior has shape {counts.shape} for {len(labels.class_names)} classes")
    return tuple(_alarms(guards, labels, counts, before)) if len(labels) else ()


def _alarms(guards: Guards, labels: PseudoLabels, prior: Floats, before: PseudoLabels | None) -> Iterator[Alarm]:
    accepted = labels.accepted_per_class()
    share = float(accepted.sum() / len(labels))
    least = guards.acceptance
    if least is not None and share < least:
        reason = f"{share:.1%} of {len(labels)} images were accepted, less than {least:.1%}"
        yield _alarm(guards, labels, "acceptance", share, reason)
    if accepted.sum() == 0:
        return  # the others would say the same in other words
    shift = mix_shift(accepted, prior)
    if guards.class_mix is not None and shift > guards.class_mix:
        named = _most_shifted(accepted, prior, labels.class_names)
        yield _alarm(guards, labels, "class_mix", shift, f"accepted classes are {shift:.2f} off the labels', {named}")
    empty = [name for name, n in zip(labels.class_names, accepted.tolist(), strict=True) if n == 0]
    if guards.empty_classes is not None and len(empty) > guards.empty_classes:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        yield _alarm(guards, labels, "empty_classes", float(len(empty)), f"no image was accepted as {shown}")
    changed = 0.0 if before is None else churn(labels, before)
    if guards.churn is not None and changed > guards.churn:
        reason = f"the new teacher calls {changed:.1%} of the pool otherwise than the last one"
        yield _alarm(guards, labels, "churn", changed, reason)


def _alarm(guards: Guards, labels: PseudoLabels, guard: GuardName, value: float, reason: str) -> Alarm:
    limit, action = guards.limit(guard) or 0.0, guards.actions.get(guard, "warn")
    return Alarm(guard=guard, round=labels.round, value=value, limit=limit, reason=reason, action=action)


def mix_shift(accepted: npt.ArrayLike, prior: npt.ArrayLike) -> float:
    """Total variation distance in 0-1 between two class mixes, given as counts (classes,).

    >>> mix_shift([10, 10], [1, 1]), mix_shift([20, 0], [1, 1])
    (0.0, 0.5)
    """
    return float(np.abs(_shares(accepted) - _shares(prior)).sum() / 2)


def churn(labels: PseudoLabels, before: PseudoLabels) -> float:
    """The share in 0-1 of images that both label, accepted or not, whose predicted class differs; 0 where none is."""
    old = before.table.select(["image_id", "label"]).rename_columns(["image_id", "before"])
    both = labels.table.select(["image_id", "label"]).join(old, "image_id", join_type="inner")
    if both.num_rows == 0:
        return 0.0
    return float((both["label"].to_numpy() != both["before"].to_numpy()).mean())


def _shares(counts: npt.ArrayLike) -> Floats:
    values = np.asarray(counts, np.float64)
    total = values.sum()
    return values / total if total else values


def _most_shifted(accepted: npt.ArrayLike, prior: npt.ArrayLike, class_names: tuple[str, ...]) -> str:
    ours, theirs = _shares(accepted), _shares(prior)
    at = int(np.abs(ours - theirs).argmax())
    return f"most of all {class_names[at]!r}: {ours[at]:.1%} of the accepted, {theirs[at]:.1%} of the labels"
