"""Guards: signs that self-training is going wrong. Each raises an alarm with a reason and an action."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from selftrain.config import GuardName, Guards
from selftrain.errors import PredictionError
from selftrain.selflabel.rounds.alarms import Alarm
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Floats = npt.NDArray[np.float64]


def watch(guards: Guards, labels: PseudoLabels, *, prior: npt.ArrayLike) -> tuple[Alarm, ...]:
    """The alarms about a round's pseudo-labels, before a student is trained on them.

    `prior` (classes,) counts the human training labels per class. A guard whose limit is None is off. Raises
    PredictionError for a prior of another number of classes.
    """
    counts = np.asarray(prior, np.float64)
    if counts.shape != (len(labels.class_names),):
        raise PredictionError(f"the prior has shape {counts.shape} for {len(labels.class_names)} classes")
    return tuple(_alarms(guards, labels, counts)) if len(labels) else ()


def watch_student(guards: Guards, churn: float | None, *, round_index: int) -> tuple[Alarm, ...]:
    """The alarms about a trained student that disagrees with its teacher on a share `churn` (0-1) of the pool.

    The share is counted on a sample of the pool; `churn` is None if it was not counted.
    """
    if churn is None or guards.churn is None or churn <= guards.churn:
        return ()
    reason = f"the student disagrees with its teacher on {churn:.1%} of the pool"
    return (_alarm(guards, "churn", churn, reason, round_index=round_index),)


def _alarms(guards: Guards, labels: PseudoLabels, prior: Floats) -> Iterator[Alarm]:
    accepted = labels.accepted_per_class()
    share = float(accepted.sum() / len(labels))
    least = guards.acceptance
    if least is not None and share < least:
        reason = f"{share:.1%} of {len(labels)} images were accepted, less than {least:.1%}"
        yield _alarm(guards, "acceptance", share, reason, round_index=labels.round)
    if accepted.sum() == 0:
        return  # the other guards would only repeat it
    shift = mix_shift(accepted, prior)
    if guards.class_mix is not None and shift > guards.class_mix:
        named = _most_shifted(accepted, prior, labels.class_names)
        reason = f"the accepted class mix differs from the labels' mix by {shift:.2f}, {named}"
        yield _alarm(guards, "class_mix", shift, reason, round_index=labels.round)
    empty = [name for name, n in zip(labels.class_names, accepted.tolist(), strict=True) if n == 0]
    if guards.empty_classes is not None and len(empty) > guards.empty_classes:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        reason = f"no image was accepted as {shown}"
        yield _alarm(guards, "empty_classes", float(len(empty)), reason, round_index=labels.round)


def _alarm(guards: Guards, guard: GuardName, value: float, reason: str, *, round_index: int) -> Alarm:
    limit, action = guards.limit(guard) or 0.0, guards.actions.get(guard, "warn")
    return Alarm(guard=guard, round=round_index, value=value, limit=limit, reason=reason, action=action)


def mix_shift(accepted: npt.ArrayLike, prior: npt.ArrayLike) -> float:
    """Total variation distance in 0-1 between two class mixes, given as counts (classes,).

    >>> mix_shift([10, 10], [1, 1]), mix_shift([20, 0], [1, 1])
    (0.0, 0.5)
    """
    return float(np.abs(_shares(accepted) - _shares(prior)).sum() / 2)


def _shares(counts: npt.ArrayLike) -> Floats:
    values = np.asarray(counts, np.float64)
    total = values.sum()
    return values / total if total else values


def _most_shifted(accepted: npt.ArrayLike, prior: npt.ArrayLike, class_names: tuple[str, ...]) -> str:
    pool, labels = _shares(accepted), _shares(prior)
    at = int(np.abs(pool - labels).argmax())
    return f"most of all {class_names[at]!r}: {pool[at]:.1%} of the accepted, {labels[at]:.1%} of the labels"
