"""The judgement of a user's model on held-out images: outputs, accuracy and calibration."""

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
from selftrain.data.inputs.images import Array
from selftrain.data.inputs.values import Scale
from selftrain.errors import PredictionError, SourceError
from selftrain.evaluate import metrics
from selftrain.evaluate.class_order import explained, interchanged
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.statistics.intervals import wilson
from selftrain.evaluate.statistics.significance import mcnemar
from selftrain.learn.adoption.preparation import (
    PLAIN,
    PREPARATIONS,
    best_fit,
    by_chance,
    changed,
    is_better_than_chance,
)
from selftrain.learn.models.calibrate import cross_fitted_probs, fit_temperature, softmax

Ints = npt.NDArray[np.int64]

FEW_HELD_OUT = 50
# The images are refused as wrongly prepared only where three things hold in another preparation.
_LEAST_GAIN = 0.1  # the accuracy is higher by more than this
_LEVEL = 0.01  # the difference is significant at this level
_LEAST_ACCURACY = 1 / 3  # the lower bound of the accuracy lies above this
_SHOWN = 10
_ALONE = 4  # images that are shown to the model again, one by one
ENOUGH = "label more, or give validation="


@dataclass(frozen=True)
class Judgement:
    """What held-out images show about a model; `held_out` holds its calibrated, cross-fitted answers to them."""

    class_names: tuple[str, ...]
    outputs: OutputKind
    calibration: Calibration
    held_out: HeldOut
    warnings: tuple[str, ...]

    def calibrated(self, answers: Floats) -> Floats:
        """Probabilities (n, classes) from the model's `answers` (n, columns)."""
        return softmax(as_logits(answers, self.outputs), self.calibration.temperature)


def judge_model(
    model: UserModel,
    reading: Reading,
    labels: Ints,
    usable: Mask,
    *,
    outputs: OutputKind | None,
    class_names: tuple[str, ...],
    batch_size: int,
) -> Judgement:
    """Judge the model on the held-out rows of `reading` that are `usable` (n,).

    `labels` (n,) are the classes of all rows. Raises SourceError where no row is left, or where the images clearly have
    a different range of values than the model expects. Raises PredictionError for answers that are not of the kind
    `outputs`, that change from one time to the next or with the other images of a batch, for classes that are answered
    for one another, and for a model that only guesses.
    """
    used = usable[reading.held_out]
    answers = reading.answers[used]
    if not len(answers):
        raise SourceError(f"none of {len(used)} held-out images can be used to judge the model; {ENOUGH}")
    kind = outputs or outputs_of(answers)
    if kind == "probabilities":
        refuse_no_probabilities(reading.answers, role=reading.role, named=reading.name_held_out)
    _refuse_changing(model, reading)
    _refuse_wrong_range(model, reading, labels[reading.held_out], kind, batch_size=batch_size)
    labels = labels[reading.held_out][used]
    logits = as_logits(answers, kind)
    # Where all answers are right, the likelihood has no maximum: a fit would make the model certain of every answer.
    circle = interchanged(logits.argmax(axis=1), labels, logits.shape[1])
    if circle:
        raise PredictionError(
            f"the model is right on {(logits.argmax(axis=1) == labels).mean():.0%} of {len(labels)} held-out images, "
            f"but {explained(circle, class_names)}: give class_names, or labels, in the order of its outputs"
        )
    _refuse_chance(logits.argmax(axis=1), labels, class_names)
    all_right = bool((logits.argmax(axis=1) == labels).all())
    temperature = 1.0 if all_right else fit_temperature(logits, labels)
    probs = softmax(logits) if all_right else cross_fitted_probs(logits, labels)
    calibration = _calibration(logits, labels, probs, temperature)
    return Judgement(
        class_names=class_names,
        outputs=kind,
        calibration=calibration,
        held_out=HeldOut(probs, labels),
        warnings=tuple(_warnings(labels, calibration, class_names)),
    )


def _refuse_changing(model: UserModel, reading: Reading) -> None:
    """Raise PredictionError where the model answers an image alone clearly differently than it did among others."""
    before = reading.answers[: min(_ALONE, len(reading.sample))]
    alone = [
        answers_of(model, reading.sample[row : row + 1], batch_size=1, role=reading.role)[0]
        for row in range(len(before))
    ]
    if changed(before, np.stack(alone)):
        raise PredictionError(
            f"{reading.role}: the model answers an image alone differently than among others, or differently each "
            "time: a layer is at work as in training. Call it with training=False, or model.eval() in torch"
        )


def _refuse_chance(answers: Ints, labels: Ints, class_names: tuple[str, ...]) -> None:
    """Raise PredictionError for `answers` (n,) that are not better than chance, or not surely where many have labels.

    Chance agrees with `labels` (n,) as often as the frequencies of both say, or once in as many times as there are
    classes. Labels of a single class cannot show more than the latter.
    """
    classes, count = len(class_names), len(labels)
    right = int((answers == labels).sum())
    mixed = len(np.unique(labels)) > 1
    chance = max(1 / classes, by_chance(answers, labels, classes) if mixed else 0.0)
    unsure = mixed and count >= FEW_HELD_OUT and not is_better_than_chance(answers, labels, classes)
    if right < count and (right / count <= chance or unsure):
        shown = ", ".join(class_names[:_SHOWN]) + (", ..." if classes > _SHOWN else "")
        raise PredictionError(
            f"the model is right on {right} of {count} held-out images, not clearly better than chance ({chance:.0%}): "
            f"nothing was labelled. Are the classes ({shown}) in the order of its outputs, and the images prepared as "
            f"in its training? Where the images are too few to tell, {ENOUGH}"
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
        yield f"{len(labels)} held-out images are few to calibrate on; {ENOUGH}"
    right = round(calibration.accuracy * len(labels))
    if right == len(labels):
        yield (
            f"the model is right on all {right} held-out images: its confidence is used as it is (temperature 1); "
            "was it trained on them? selftrain.held_out says which ones they are"
        )
    if wilson(right, len(labels)).low <= 1 / len(names):
        yield (
            f"the model is right on {right} of {len(labels)} held-out images, not clearly better than chance: "
            "are the classes in the order of its outputs, and the images prepared as in its training?"
        )
    missing = [name for index, name in enumerate(names) if not (labels == index).any()]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        yield f"{len(missing)} of {len(names)} classes have no held-out image: {shown}"


def _refuse_wrong_range(
    model: UserModel, reading: Reading, labels: Ints, outputs: OutputKind, *, batch_size: int
) -> None:
    """Raise SourceError where the model is clearly better on the same images in another usual preparation."""
    given = {Scale.TO_1: "0..1", Scale.TO_255: PLAIN}.get(reading.pixels.scale)
    if given is None:
        return
    count = len(reading.sample)
    truth = labels[:count]
    probs = {given: softmax(as_logits(reading.answers[:count], outputs))}
    right = probs[given].argmax(axis=1) == truth
    if right.mean() + _LEAST_GAIN >= 1:
        return  # no other preparation can be that much better
    for name, shown in _prepared(reading.sample, given):
        try:
            answers = answers_of(model, shown, batch_size=batch_size)
        except PredictionError:  # the model may refuse float32 images
            continue
        probs[name] = softmax(as_logits(answers, outputs))
    best = best_fit(probs, truth)
    right_there = probs[best].argmax(axis=1) == truth
    gains, losses = int((right_there & ~right).sum()), int((right & ~right_there).sum())
    better = (gains - losses) / count > _LEAST_GAIN and mcnemar(gains, losses) < _LEVEL
    if better and wilson(int(right_there.sum()), count).low > _LEAST_ACCURACY:
        low, high = reading.pixels.low, reading.pixels.high
        raise SourceError(
            f"the model is right on {right.mean():.0%} of the held-out images as they are (values {low:g}..{high:g}), "
            f"but on {right_there.mean():.0%} of them {_words(best, given)}. "
            "Give images in the range that it was trained on, or a model that rescales them"
        )


def _prepared(sample: Array, given: str) -> Iterator[tuple[str, Array]]:
    """The sample in the usual preparations other than the `given` one; those of colours only where it has colours."""
    pixels = sample.astype(np.float32) * np.float32(255 if given != PLAIN else 1)
    coloured = pixels.ndim == 4 and pixels.shape[-1] == 3
    for name, preparation in PREPARATIONS.items():
        if name == given:
            continue
        if coloured:
            yield name, preparation(pixels)
        elif preparation.is_even:
            yield name, np.asarray(pixels * preparation.scale[0] + preparation.offset[0], np.float32)


def _words(name: str, given: str) -> str:
    if {name, given} == {PLAIN, "0..1"}:
        return "times 255" if name == PLAIN else "divided by 255"
    return f"prepared as {name!r}, which docs/data.md explains"
