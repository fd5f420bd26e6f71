"""Verification: whether a run's stored numbers follow from what it stored beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict

from selftrain.evaluate import metrics
from selftrain.evaluate.evaluation import Comparison, EvaluationReport
from selftrain.evaluate.statistics.intervals import paired_difference, wilson
from selftrain.evaluate.statistics.significance import mcnemar
from selftrain.selflabel.rounds.record import RunRecord

_CLOSE = 1e-9
MOST_DIFFERENT = 0.01
"""Share of a sample whose answers may change with the processor: networks round differently."""


class Outcome(StrEnum):
    """What became of a check."""

    HOLDS = "holds"
    BROKEN = "does not hold"
    UNKNOWN = "cannot be checked"


class Check(BaseModel):
    """A check: what was looked at, what became of it, and the figures or the reason."""

    model_config = ConfigDict(frozen=True)

    what: str
    outcome: Outcome
    why: str


def unknown(what: str, why: str) -> Check:
    """A check that could not be made, for the reason `why`."""
    return Check(what=what, outcome=Outcome.UNKNOWN, why=why)


def check(what: str, holds: bool, why: str) -> Check:
    """A check that could be made."""
    return Check(what=what, outcome=Outcome.HOLDS if holds else Outcome.BROKEN, why=why)


def check_numbers(record: RunRecord, found: EvaluationReport) -> tuple[Check, ...]:
    """The numbers of `record` and `found`, computed again from the confusion matrix and from the paired counts."""
    confusion = np.array(found.confusion, np.int64)
    right, images = int(np.trace(confusion)), int(confusion.sum())
    accuracy, f1 = right / max(images, 1), float(np.nanmean(metrics.per_class(confusion).f1))
    said = record.test_accuracy
    compared = (
        ("teacher", found.comparison, (record.difference, record.p_value)),
        ("control", found.control, (record.control_difference, record.control_p_value)),
        ("baseline", found.baseline, (record.baseline_difference, record.baseline_p_value)),
    )
    return (
        check("test images", images == found.images == record.test_images, f"{images} in the confusion matrix"),
        check("test accuracy", _same(accuracy, found.accuracy, said), f"{right} of {images} right: {accuracy:.4f}"),
        check(
            "its interval",
            _same(*wilson(right, images, alpha=found.alpha), *found.interval, pairs=True),
            "Wilson's, from the same counts",
        ),
        check("macro F1", _same(f1, found.macro_f1, record.macro_f1), f"{f1:.4f} from the confusion matrix"),
        *(
            _paired(f"comparison with the {name}", each, images, right, recorded)
            for name, each, recorded in compared
            if each is not None
        ),
    )


def _paired(
    what: str, found: Comparison, images: int, right: int, recorded: tuple[float | None, float | None]
) -> Check:
    """Difference, interval and p-value, from the images that only one of two models answers rightly."""
    if found.n10 is None or found.n01 is None:
        return unknown(what, f"{found.test} does not count images")
    n10, n01 = found.n10, found.n01
    both = right - n10
    neither = images - both - n10 - n01
    if min(both, neither) < 0:
        return check(what, False, f"{n10} images won and {n01} lost do not fit {right} of {images} right")
    interval = paired_difference(both=both, only_first=n10, only_second=n01, neither=neither, alpha=found.alpha)
    difference, p_value = (n10 - n01) / images, mcnemar(n10, n01)
    holds = (
        _same(difference, found.difference, recorded[0])
        and _same(p_value, found.p_value, recorded[1])
        and _same(*interval, *found.difference_interval, pairs=True)
        and _same((both + n01) / images, found.reference)
    )
    return check(what, holds, f"{n10} images won, {n01} lost: {100 * difference:+.1f} points, p = {p_value:.2g}")


def _same(*values: float | None, pairs: bool = False) -> bool:
    """Whether all `values` are equal but for rounding; with `pairs`, the first half and the second one by one."""
    if pairs:
        half = len(values) // 2
        return all(_same(*each) for each in zip(values[:half], values[half:], strict=True))
    first = values[0]
    return first is not None and all(
        each is not None and math.isclose(each, first, rel_tol=_CLOSE, abs_tol=_CLOSE) for each in values[1:]
    )


def check_answers(found: EvaluationReport, truth: Mapping[str, int], answered: Mapping[str, int]) -> Check:
    """The answers that the model gives now, against those of the run.

    - `truth`: the label of each image of the sample, by its id; `answered`: the class that the model gives it now.

    Runs of an earlier version stored their most confident errors alone: images whose answer is not known are left out.
    Of the rest, MOST_DIFFERENT may differ.
    """
    what = "the model's answers"
    known = found.answers(truth)
    if not known:
        return unknown(what, "the run stored none of these answers")
    changed = [name for name, said in known.items() if answered[name] != said]
    named = f", such as {changed[0][:12]}" if changed else ""
    why = f"{len(known) - len(changed)} of {len(known)} test images are answered as in the run{named}"
    return check(what, len(changed) <= MOST_DIFFERENT * len(known), why)
