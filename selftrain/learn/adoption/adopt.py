"""Adoption: a classifier that a user brings becomes one of our models, after it was asked how it reads images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selftrain.errors import BackboneError, ConfigError, PredictionError
from selftrain.learn.adoption.preparation import (
    PLAIN,
    PREPARATIONS,
    Preparation,
    best_fit,
    check_better_than_chance,
    concern,
)
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Answers, Contract, Reading
from selftrain.learn.models.loading import check_class_names, load_keras

if TYPE_CHECKING:
    import keras

UInt8s = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_SMALLEST: Final = 1e-7  # probability
_TINIEST: Final = 1e-30  # of one of several sigmoids: all may be small, and the largest counts
_SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Known:
    """What is at hand to ask a model: its `pixels` as the user said, real images, and labels of them.

    `images` gives uint8 (n, side, side, 3) of a side in pixels; `labeled` the same with their classes (n,).
    """

    pixels: str | None = None
    images: Callable[[int], UInt8s] | None = None
    labeled: Callable[[int], tuple[UInt8s, npt.NDArray[np.int64]]] | None = None


NOTHING_KNOWN: Final = Known()


@dataclass(frozen=True, eq=False)
class _Asked:
    """A loaded model, the side of the square images that it is shown, and whether it rescales pixels itself."""

    inner: keras.Model
    side: int
    rescales: bool
    answers: Answers = "logits"

    def raw(self, images: UInt8s, preparation: Preparation) -> Floats:
        """The model's own answers (n, columns) to uint8 images (n, side, side, 3)."""
        import keras

        height, width, channels = self.inner.input_shape[1:]
        prepared = preparation(images)
        if channels == 1:
            prepared = prepared.mean(axis=-1, keepdims=True)
        if (height or self.side, width or self.side) != prepared.shape[1:3]:
            prepared = keras.ops.convert_to_numpy(keras.ops.image.resize(prepared, (height, width)))
        parts = [self.inner.predict_on_batch(prepared[start : start + 32]) for start in range(0, len(prepared), 32)]
        return np.concatenate(parts).astype(np.float32)

    def probs(self, images: UInt8s, name: str) -> Floats:
        """Probabilities (n, classes) of images that are prepared as `name` says."""
        return softmax(_as_logits(self.raw(images, PREPARATIONS[name]), self.answers, np))


def adopt(
    path: Path, *, class_names: tuple[str, ...], image_size: int, known: Known = NOTHING_KNOWN
) -> tuple[keras.Model, Contract]:
    """A user's own .keras classifier as one of our models: 0-255 images in, logits out, with a contract.

    The contract's `brought` says how it reads pixels and what it answers. Where labelled images are `known`, the pixel
    range that fits them is measured. Otherwise images are given as they are, 0-255.

    Raises UntrustedFileError as `load` does, and BackboneError if its input does not fit `image_size`, its outputs do
    not fit `class_names`, or these are not two or more different names. Raises PredictionError for a model that is not
    better than chance on labelled images, answers real ones all alike or all with certainty, or the same image
    differently each time.
    """
    check_class_names(class_names)
    if known.pixels is not None and known.pixels not in PREPARATIONS:
        raise ConfigError(f"pixels {known.pixels!r} are not one of: {', '.join(PREPARATIONS)}")
    inner = load_keras(path)
    _check_shapes(inner, path, classes=len(class_names), image_size=image_size)
    asked = _Asked(inner, image_size, _rescales(inner))
    noise = np.random.default_rng(0).integers(0, 256, (8, image_size, image_size, 3), np.uint8)
    images = known.images(image_size) if known.images is not None else noise
    asked = _Asked(inner, image_size, asked.rescales, _kind_of(inner, asked, images if len(images) else noise, path))
    reading = _reading(asked, known, images, class_names, path)
    model = _wrapped(asked, PREPARATIONS[reading.pixels])
    return model, Contract(backbone=inner.name, image_size=image_size, class_names=class_names, brought=reading)


def _reading(asked: _Asked, known: Known, images: UInt8s, class_names: tuple[str, ...], path: Path) -> Reading:
    height, width, _ = asked.inner.input_shape[1:]
    shape = (height or asked.side, width or asked.side)
    said = known.pixels
    labeled = known.labeled(asked.side) if known.labeled is not None else None
    if labeled is not None and len(labeled[0]):
        shown, labels = labeled
        names = [said] if said else list(PREPARATIONS)
        probs = {name: asked.probs(shown, name) for name in names}
        pixels = best_fit(probs, labels)
        accuracy = check_better_than_chance(probs[pixels], labels, class_names, called=str(path))
        return Reading(
            pixels=pixels,
            shape=shape,
            answers=asked.answers,
            known_by="said" if said else "measured",
            accuracy=accuracy,
            images=len(labels),
        )
    if said is None and known.images is not None and len(images):
        doubt = concern(asked.probs(images, PLAIN), rescales=asked.rescales)
        if doubt is not None:
            raise PredictionError(
                f"{path} was shown pixels from 0 to 255, and {doubt}: it may expect another range. Say which one it "
                "was trained on with --pixels 0..255, 0..1 or -1..1, or give labelled images, which show it"
            )
    known_by = "said" if said else "assumed"
    return Reading(pixels=said or PLAIN, shape=shape, answers=asked.answers, known_by=known_by)


def _kind_of(inner: keras.Model, asked: _Asked, images: UInt8s, path: Path) -> Answers:
    """What the model answers. Raises PredictionError for answers that are NaN, or differ from one time to the next."""
    first, again = asked.raw(images, PREPARATIONS[PLAIN]), asked.raw(images, PREPARATIONS[PLAIN])
    if not np.isfinite(first).all():
        raise PredictionError(f"{path} answers NaN or infinity to pixels from 0 to 255; say its range with --pixels")
    if np.abs(first - again).max() > _SUM_TOLERANCE * max(1.0, float(np.abs(first).max())):
        raise PredictionError(
            f"{path} answers the same images differently each time: a random layer is at work outside of training; "
            "save the model without it"
        )
    activation = _last_activation(inner)
    inside = bool((first >= 0).all() and (first <= 1 + _SUM_TOLERANCE).all())
    if first.shape[1] == 1:
        return "sigmoid" if activation == "sigmoid" or (inside and activation is None) else "logits"
    if activation == "softmax" or (inside and bool((np.abs(first.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())):
        return "softmax"
    return "sigmoids" if activation == "sigmoid" else "logits"


def _as_logits(answers: Any, kind: Answers, ops: Any) -> Any:
    """Answers (n, columns) as logits (n, classes), with the functions of numpy or keras.ops.

    Several sigmoids become the logits of the class, given that exactly one applies.
    """
    if kind == "softmax":
        return ops.log(ops.maximum(answers, _SMALLEST))
    if kind in ("sigmoid", "sigmoids"):
        answers = ops.log(ops.maximum(answers, _TINIEST)) - ops.log(ops.maximum(1 - answers, _SMALLEST))
    return ops.concatenate([ops.zeros_like(answers), answers], axis=1) if answers.shape[1] == 1 else answers


def _wrapped(asked: _Asked, preparation: Preparation) -> keras.Model:
    """The model that reads uint8 or float 0-255 images (n, side, side, 3) and answers logits (n, classes)."""
    import keras

    height, width, channels = asked.inner.input_shape[1:]
    images = keras.Input((asked.side, asked.side, 3), name="image")
    prepared = keras.ops.flip(images, axis=-1) if preparation.bgr else images
    if preparation != PREPARATIONS[PLAIN]:
        scale, offset = list(preparation.scale), list(preparation.offset)
        prepared = keras.layers.Rescaling(scale, offset=offset, name="prepared")(prepared)
    if channels == 1:
        prepared = keras.ops.mean(prepared, axis=-1, keepdims=True)
    if (height or asked.side, width or asked.side) != (asked.side, asked.side):
        prepared = keras.layers.Resizing(height, width, name="resized")(prepared)
    logits = _as_logits(asked.inner(prepared), asked.answers, keras.ops)
    return keras.Model(images, logits, name=asked.inner.name)


def _rescales(model: keras.Model) -> bool:
    """Whether a layer at any depth rescales or normalizes pixels."""
    import keras

    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(
        isinstance(layer, kinds) or (isinstance(layer, keras.Model) and _rescales(layer)) for layer in model.layers
    )


def _last_activation(model: keras.Model) -> str | None:
    """The name of the activation of the last layer; None where it has none, or another one than a named function."""
    import keras

    layer = model.layers[-1]
    if isinstance(layer, keras.Model):
        return _last_activation(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if isinstance(name, str) else None


def _check_shapes(model: keras.Model, path: Path, *, classes: int, image_size: int) -> None:
    inputs, outputs = model.input_shape, model.output_shape
    if not isinstance(inputs, tuple) or len(inputs) != 4 or inputs[3] not in (1, 3):
        raise BackboneError(f"{path} reads {inputs}; allowed is one input (n, height, width, 3), or 1 for grey")
    sides = [side for side in inputs[1:3] if side is not None]
    if sides and max(sides) != image_size:
        raise BackboneError(
            f"{path} reads {inputs[1]}x{inputs[2]} px; set image_size to {max(sides)} (it is {image_size})"
        )
    columns = outputs[1] if isinstance(outputs, tuple) and len(outputs) == 2 else None
    if columns != classes and not (columns == 1 and classes == 2):
        hint = "; one column is two classes" if columns == 1 else ""
        raise BackboneError(f"{path} answers {outputs}; allowed is (n, {classes}), one column per class name{hint}")
