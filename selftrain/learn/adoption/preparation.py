"""Preparations: how a model that a user brings wants its pixels, found out from its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.errors import PredictionError
from selftrain.evaluate.class_order import explained, interchanged
from selftrain.evaluate.statistics.intervals import wilson
from selftrain.evaluate.statistics.significance import mcnemar

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_LEVEL: Final = 0.01  # of the tests that let another preparation take the place of the plain one
_SURE: Final = 0.9999  # a confidence that says nothing where nearly all are above it
_NEARLY_ALL: Final = 0.95
_SPREAD: Final = 1e-3  # probabilities that differ by less between images are constant
_SAME: Final = 0.1  # of the largest answer; rounding and quantized models differ by less from batch to batch
FEWEST: Final = 8  # images; fewer do not show that answers are constant


@dataclass(frozen=True)
class Preparation:
    """Pixels 0-255 become pixels * scale + offset, per channel; `bgr` turns the order of the channels first."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bgr: bool = False

    @property
    def is_even(self) -> bool:
        """Whether it does the same to all channels, in their order."""
        return not self.bgr and len(set(self.scale)) == len(set(self.offset)) == 1

    def __call__(self, images: npt.NDArray[np.uint8] | Floats) -> Floats:
        """uint8 or float 0-255 (n, height, width, 3) as the model reads them: float32, the same shape."""
        turned = images[..., ::-1] if self.bgr else images
        return np.asarray(
            turned.astype(np.float32) * np.array(self.scale, np.float32) + np.array(self.offset, np.float32), np.float32
        )


def _even(scale: float, offset: float = 0.0, *, bgr: bool = False) -> Preparation:
    return Preparation((scale,) * 3, (offset,) * 3, bgr)


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN: Final = "0..255"
PREPARATIONS: Final[Mapping[str, Preparation]] = {
    PLAIN: _even(1.0),
    "0..1": _even(1 / 255),
    "-1..1": _even(1 / 127.5, -1.0),
    "torch": Preparation(
        (1 / (255 * _STD[0]), 1 / (255 * _STD[1]), 1 / (255 * _STD[2])),
        (-_MEAN[0] / _STD[0], -_MEAN[1] / _STD[1], -_MEAN[2] / _STD[2]),
    ),
    "caffe": Preparation((1.0, 1.0, 1.0), (-103.939, -116.779, -123.68), bgr=True),
    "bgr 0..255": _even(1.0, bgr=True),
    "bgr 0..1": _even(1 / 255, bgr=True),
    "bgr -1..1": _even(1 / 127.5, -1.0, bgr=True),
}
"""The usual preparations, by their names; "torch" and "caffe" are those of keras.applications."""


def best_fit(probs: Mapping[str, Floats], labels: Ints) -> str:
    """The preparation under which `probs` (n, classes) fit `labels` (n,); the first stays unless another is better.

    Better is significantly more often right (McNemar), or as often right with a clearly lower log loss: the same
    channels in another range can leave the order of the answers as it is, but not how sure they are.
    """
    names = list(probs)
    best = names[0]
    for name in names[1:]:
        if _is_better(probs[name], probs[best], labels, same_channels=name.startswith("bgr") == best.startswith("bgr")):
            best = name
    return best


def _is_better(probs: Floats, others: Floats, labels: Ints, *, same_channels: bool) -> bool:
    right, right_before = probs.argmax(axis=1) == labels, others.argmax(axis=1) == labels
    gains, losses = int((right & ~right_before).sum()), int((right_before & ~right).sum())
    differs = mcnemar(gains, losses) < _LEVEL
    if differs or not same_channels:
        return differs and gains > losses
    rows = np.arange(len(labels))
    fall = np.log(np.maximum(probs[rows, labels], 1e-7)) - np.log(np.maximum(others[rows, labels], 1e-7))
    error = float(fall.std()) / len(fall) ** 0.5
    return gains >= losses and float(fall.mean()) > max(2.58 * error, 0.01)


def changed(first: Floats, again: Floats) -> bool:
    """Whether a model's answers (n, columns) to the same images differ by more than rounding explains.

    >>> changed(np.float32([[8, 1]]), np.float32([[7.9, 1]])), changed(np.float32([[8, 1]]), np.float32([[6, 1]]))
    (False, True)
    """
    scale = max(float(np.abs(first).max()), float(np.abs(again).max()))
    return bool(np.abs(first - again).max() > _SAME * scale)


def concern(probs: Floats, *, rescales: bool) -> str | None:
    """What is wrong with answers (n, classes) to unlabelled images, as far as they show it; None for nothing.

    A model that `rescales` its input itself may be sure of all of them.

    >>> concern(np.float32([[1, 0]] * 20), rescales=False)
    'all 20 images get the same answer'
    """
    count = len(probs)
    if count >= FEWEST and float(np.ptp(probs, axis=0).max()) < _SPREAD:
        return f"all {count} images get the same answer"
    sure = int((probs.max(axis=1) > _SURE).sum())
    if not rescales and sure >= _NEARLY_ALL * count:
        return f"{sure} of {count} images get a confidence above {_SURE}"
    return None


def by_chance(answers: Ints, labels: Ints, classes: int) -> float:
    """How often `answers` (n,) would agree with `labels` (n,) if they had nothing to do with them (Cohen's kappa).

    >>> by_chance(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]), 2)
    0.75
    """
    both = np.bincount(answers, minlength=classes) * np.bincount(labels, minlength=classes)
    return float(both.sum()) / len(labels) ** 2


def is_better_than_chance(answers: Ints, labels: Ints, classes: int) -> bool:
    """Whether `answers` (n,) agree with `labels` (n,) clearly more often than chance.

    The lower bound of the accuracy lies above 1 / classes, and kappa above a tenth, so that a model that always answers
    the largest class is not better. Of many classes, a bound above twice what chance gives is enough.
    """
    right, count, agreement = int((answers == labels).sum()), len(labels), by_chance(answers, labels, classes)
    low, chance = wilson(right, count).low, max(1 / classes, agreement)
    return low > 2 * chance or (low > 1 / classes and right / count > agreement + 0.1 * (1 - agreement))


def check_better_than_chance(probs: Floats, labels: Ints, class_names: tuple[str, ...], *, called: str) -> float:
    """The accuracy of `probs` (n, classes) on `labels` (n,). Raises PredictionError where it may as well be chance.

    It is raised as well where classes are answered for one another, as in another order of the classes.
    """
    answers, count, classes = probs.argmax(axis=1), len(labels), len(class_names)
    right, agreement = int((answers == labels).sum()), by_chance(answers, labels, classes)
    if not is_better_than_chance(answers, labels, classes):
        raise PredictionError(
            f"{called} is right on {right} of {count} labelled images, not clearly better than chance "
            f"({max(agreement, 1 / classes):.0%}): nothing was labelled. Are the classes ({', '.join(class_names[:5])}"
            f"{', ...' if classes > 5 else ''}) in the order of its outputs, and its pixels prepared as in its "
            "training? Few images cannot tell; give more of them"
        )
    circle = interchanged(answers, labels, classes)
    if circle:
        raise PredictionError(
            f"{called} is right on {right} of {count} labelled images, but {explained(circle, class_names)}: are the "
            "classes in the order of its outputs? Nothing was labelled"
        )
    return right / count
