"""A user's model, judged on labelled images held out: which answers it gives, how right, how honestly sure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.analysis import Calibration
from selftrain.autolabeling.labeled import Reading
from selftrain.autolabeling.user_model import (
    Floats,
    OutputKind,
    UserModel,
    answers_of,
    as_logits,
    outputs_of,
    refuse_no_probabilities,
)
from selftrain.data.inputs.held_out import Mask
from selftrain.data.inputs.values import Scale
from selftrain.errors import PredictionError, SourceError
from selftrain.evaluate import metrics
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.intervals import wilson
from selftrain.evaluate.significance import mcnemar
from selftrain.learn.models.calibrate import cross_fitted_probs, fit_temperature, softmax

Ints = npt.NDArray[np.int64]

FEW_HELD_OUT = 50
_CLEARLY = 0.01  # level of the test between two scales
_GAIN = 0.1  # of accuracy
_KNOWS = 1 / 3  # accuracy of a model at the scale it was trained on
_SHOWN = 10
ENOUGH = "label more, or give validation="


@dataclass(frozen=True)
class Judgement:
    """What the held-out images say of a model; `held_out` are its calibrated, cross-fitted answers to them."""

    class_names: tuple[str, ...]
    outputs: OutputKind
    calibration: Calibration
    held_out: HeldOut
    warnings: tuple[str, ...]

    def calibrated(self, answers: Floats) -> Floats:
        """Probabilities (n, classes) of the model's `answers` (n, columns)."""
        return softmax(as_logits(answers, self.outputs), self.calibration.temperature)


def judge_model(
    held: Reading,
    labels: Ints,
    usable: Mask,
    asked: UserModel,
    *,
    outputs: OutputKind | None,
    class_names: tuple[str, ...],
    batch_size: int,
) -> Judgement:
    """The model on the held-out rows of `held` that are `usable` (n,); `labels` (n,) are those of all its rows.

    Raises SourceError where there is none, or where the images are clearly of another scale than the model was trained
    on; PredictionError for answers that are neither logits nor probabilities, or are not what `outputs` says.
    """
    used = usable[held.held]
    answers = held.answers[used]
    if not len(answers):
        raise SourceError(f"none of {len(held.held)} labelled images is held out to judge the model on; {ENOUGH}")
    said = outputs or outputs_of(answers)
    if said == "probabilities":
        refuse_no_probabilities(held.answers, role=held.role, named=held.name_held)
    _refuse_wrong_scale(asked, held, labels[held.held], said, batch_size=batch_size)
    labels = labels[held.held][used]
    logits = as_logits(answers, said)
    # Where all answers are right, the likelihood has no maximum: any model would be made certain of everything.
    all_right = bool((logits.argmax(axis=1) == labels).all())
    temperature = 1.0 if all_right else fit_temperature(logits, labels)
    probs = softmax(logits) if all_right else cross_fitted_probs(logits, labels)
    calibration = _calibration(logits, labels, probs, temperature)
    return Judgement(
        class_names=class_names,
        outputs=said,
        calibration=calibration,
        held_out=HeldOut(probs, labels),
        warnings=tuple(_warnings(labels, calibration, class_names)),
    )


def _calibration(logits: Floats, labels: Ints, probs: Floats, temperature: float) -> Calibration:
    before = softmax(logits)
    return Calibration(
        images=len(labels),
        accuracy=metrics.accuracy(labels, before),
        temperature=temperature,
        error_before=metrics.expected_calibration_error(labels, before),
        error_after=metrics.expected_calibration_error(labels, probs),
        log_loss_before=metrics.log_loss(labels, before),
        log_loss_after=metrics.log_loss(labels, probs),
    )


def _warnings(labels: Ints, calibration: Calibration, names: tuple[str, ...]) -> Iterator[str]:
    if len(labels) < FEW_HELD_OUT:
        yield f"{len(labels)} held-out images are few to calibrate on; label more, or give validation="
    right = round(calibration.accuracy * len(labels))
    if right == len(labels):
        yield (
            f"the model is right on all {right} held-out images: its confidence is used as it is (temperature 1); "
            "was it trained on them? selftrain.held_out says which they are"
        )
    if wilson(right, len(labels)).low <= 1 / len(names):
        yield (
            f"the model is right on {right} of {len(labels)} held-out images, not clearly better than chance: "
            "are the classes in the order of its outputs, and the images prepared as in its training?"
        )
    missing = [name for index, name in enumerate(names) if not (labels == index).any()]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        yield f"no held-out image of {len(missing)} of {len(names)} classes: {shown}"


def _refuse_wrong_scale(asked: UserModel, held: Reading, labels: Ints, outputs: OutputKind, *, batch_size: int) -> None:
    """Raise SourceError where the model is clearly better on the same images at the other usual scale."""
    factor = {Scale.TO_1: 255.0, Scale.TO_255: 1 / 255}.get(held.pixels.scale)
    if factor is None:
        return
    count = len(held.sample)
    try:
        answers = answers_of(asked, (held.sample * np.float32(factor)).astype(np.float32), batch_size=batch_size)
    except PredictionError:  # it reads the type given only
        return
    truth = labels[:count]
    ours, theirs = (as_logits(each, outputs).argmax(axis=1) == truth for each in (held.answers[:count], answers))
    gained, lost = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    better = (gained - lost) / count > _GAIN and mcnemar(gained, lost) < _CLEARLY
    if better and wilson(int(theirs.sum()), count).low > _KNOWS:
        low, high = held.pixels.low, held.pixels.high
        raise SourceError(
            f"the model is right on {ours.mean():.0%} of the held-out images as they are (values {low:g}..{high:g}), "
            f"and on {theirs.mean():.0%} of them {'times 255' if factor > 1 else 'divided by 255'}: "
            "give images in the range that it was trained on, or a model that rescales them"
        )
