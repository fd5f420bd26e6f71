"""Does the forecast of the page hold: how much does a head gain by 100 more labels, and was that in the interval?

A head on frozen features is fitted to some labels of flowers and of CIFAR-10, as many of each class, and the forecast
is made from these labels and some 60 for validation. Then 100 labels are drawn at random and added, and both heads are
asked about all other images. The forecast never sees these.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import JsonValue

from benchmarks import photos, pretrained
from benchmarks.record import Check, Result
from selftrain.evaluate.statistics.forecast import forecast
from selftrain.learn.heads.learning_curve import held_out_answers
from selftrain.learn.heads.logistic import Linear, Targets, fit_logistic

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MORE, VALIDATION = 100, 60
SIZES = (50, 100, 200)
DRAWS = 10
COVERED = 0.85
_PIXELS, _CIFAR_IMAGES = 96, 5_000


def measure(*, quick: bool) -> Result:
    """All draws of both sets."""
    sets = {"flowers": flowers_features(quick=quick), "cifar10": cifar10_features(quick=quick)}
    details: dict[str, JsonValue] = {}
    held: list[bool] = []
    errors: list[float] = []
    for name, (features, labels) in sets.items():
        for size in SIZES:
            found = [_draw(features, labels, size=size, seed=seed) for seed in range(3 if quick else DRAWS)]
            told = np.array([each for each in found if each is not None])
            inside = (told[:, 0] <= told[:, 3]) & (told[:, 3] <= told[:, 2])
            held += inside.tolist()
            errors += (100 * (told[:, 1] - told[:, 3])).tolist()
            details[f"{name}, {size} labels"] = {
                "told": len(told),
                "inside": int(inside.sum()),
                "low": float(100 * told[:, 0].mean()),
                "middle": float(100 * told[:, 1].mean()),
                "high": float(100 * told[:, 2].mean()),
                "gained": float(100 * told[:, 3].mean()),
            }
    checks = (
        Check(
            what=f"gains by {MORE} labels that lie in the forecast's interval",
            measured=float(np.mean(held)),
            relation=">=",
            target=COVERED,
            unit="of 1",
        ),
        Check(
            what="the forecast's middle beside the gain, absolute, mean",
            measured=float(np.abs(errors).mean()),
            relation="<=",
            target=2.0,
            unit="points",
        ),
    )
    return Result(checks=checks, details=details)


def _draw(features: Floats, labels: Ints, *, size: int, seed: int) -> tuple[float, float, float, float] | None:
    """Low, middle and high of the forecast, and what the labels gained; None where the forecast says nothing."""
    classes = int(labels.max()) + 1
    order = np.random.default_rng(seed).permutation(len(labels))
    own, order = balanced(order, labels, size // classes)
    validation, order = balanced(order, labels, VALIDATION // classes)
    new, rest = order[:MORE], order[MORE:]
    before = fit(features[own], labels[own], classes)
    known = np.concatenate([own, validation])
    penalty = before.inverse_penalty
    answers = held_out_answers(features[known], labels[known], classes=classes, inverse_penalty=penalty, seed=seed)
    if answers is None:
        return None
    right = answers.right.astype(np.float64)
    gains = {
        each.more: each for each in forecast(answers.sizes, right, labels=size, luck=answers.luck, seed=seed).gains
    }
    if MORE not in gains:
        return None
    both = np.concatenate([own, new])
    after = fit(features[both], labels[both], classes)
    gained = _accuracy(after, features[rest], labels[rest]) - _accuracy(before, features[rest], labels[rest])
    return gains[MORE].low, gains[MORE].middle, gains[MORE].high, gained


def balanced(order: Ints, labels: Ints, per_class: int) -> tuple[Ints, Ints]:
    """The first `per_class` of each class in `order`, and the others."""
    nth = np.empty(len(order), np.int64)
    for name in np.unique(labels):
        here = np.flatnonzero(labels[order] == name)
        nth[here] = np.arange(len(here))
    return order[nth < per_class], order[nth >= per_class]


def fit(features: Floats, labels: Ints, classes: int) -> Linear:
    """A head that was fitted to all of `features` (n, d), with the penalty that held-out ones choose."""
    ones = np.ones(len(labels), np.float32)
    return fit_logistic(features, Targets(np.eye(classes, dtype=np.float32)[labels], ones, ones.astype(bool)), seed=0)


def _accuracy(head: Linear, features: Floats, labels: Ints) -> float:
    return float((head.logits(features).argmax(axis=1) == labels).mean())


def flowers_features(*, quick: bool) -> tuple[Floats, Ints]:
    """The features (n, d) of TensorFlow Flowers, and the classes (n,)."""
    with tempfile.TemporaryDirectory() as folder:
        files = photos.unpack_flowers(Path(folder))
        files = sorted(files, key=lambda each: each.name)[: 800 if quick else None]
        names = sorted({each.parent.name for each in files})
        images = np.stack([np.asarray(_square(Image.open(each))) for each in files])
    return _features(images), np.array([names.index(each.parent.name) for each in files])


def cifar10_features(*, quick: bool) -> tuple[Floats, Ints]:
    """The features (n, d) of 5,000 images of CIFAR-10, made larger, and the classes (n,)."""
    pixels, labels = photos.cifar10(800 if quick else _CIFAR_IMAGES)
    images = np.stack([np.asarray(_square(Image.fromarray(each))) for each in pixels])
    return _features(images), labels.astype(np.int64)


def _square(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((_PIXELS, _PIXELS), Image.Resampling.BILINEAR)


def _features(images: npt.NDArray[np.uint8]) -> Floats:
    """What the small network with its published weights makes of `images` (n, s, s, 3)."""
    network = keras.applications.MobileNetV2(
        input_shape=(_PIXELS, _PIXELS, 3), alpha=0.35, include_top=False, pooling="avg",
        weights=str(photos.archive(pretrained.TEACHER_WEIGHTS)),
    )  # fmt: skip
    found: Floats = network.predict(images.astype(np.float32) / 127.5 - 1, batch_size=64, verbose=0)
    return found
