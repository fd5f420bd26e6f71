"""Adoption: a classifier that a user brings becomes one of our models, after it was asked how it reads images."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.files import GREY
from selftrain.errors import BackboneError, ConfigError, PredictionError
from selftrain.learn.adoption.formats import open_brought
from selftrain.learn.adoption.preparation import (
    PLAIN,
    PREPARATIONS,
    Preparation,
    best_fit,
    changed,
    check_better_than_chance,
    concern,
)
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Answers, Contract, Reading
from selftrain.learn.models.loading import check_class_names

if TYPE_CHECKING:
    import keras

UInt8s = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_SMALLEST: Final = 1e-7  # probability
_TINIEST: Final = 1e-30  # of one of several sigmoids: all may be small, and the largest counts
_SUM_TOLERANCE: Final = 1e-3
_ALONE: Final = 4  # images that are shown one by one too
_LARGEST_SIDE: Final = 10_000  # pixels


@dataclass(frozen=True)
class Known:
    """What is at hand to ask a model: its `pixels`, `size` and `bits` as the user said, real images, and their labels.

    `size` is height and width in pixels, for a model that reads any. `bits` is how many of 16 bits the grey pictures
    fill that it will be shown.
    `images` gives uint8 (n, side, side, 3) of a side in pixels; `labeled` the same with their classes (n,).
    """

    pixels: str | None = None
    size: tuple[int, int] | None = None
    bits: int | None = None
    images: Callable[[int], UInt8s] | None = None
    labeled: Callable[[int], tuple[UInt8s, npt.NDArray[np.int64]]] | None = None


NOTHING_KNOWN: Final = Known()


def size_of(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels, of text such as "96x128". Raises ConfigError for any other.

    >>> size_of("96x128"), size_of("64"), size_of(None)
    ((96, 128), (64, 64), None)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None or not all(0 < int(each) <= _LARGEST_SIDE for each in found.groups() if each):
        raise ConfigError(f"image size {text!r} is not height x width in pixels, such as 96x128")
    return int(found[1]), int(found[2] or found[1])


@dataclass(frozen=True, eq=False)
class _Asked:
    """A loaded model, the side of the square images that it is shown, and the height and width that it reads.

    `rescales`: whether it rescales pixels itself.
    """

    inner: keras.Model
    side: int
    size: tuple[int, int]
    rescales: bool
    answers: Answers = "logits"

    def raw(self, images: UInt8s, preparation: Preparation) -> Floats:
        """The model's own answers (n, columns) to uint8 images (n, side, side, 3)."""
        import keras

        prepared = preparation(_without_colour(images) if self.inner.input_shape[3] == 1 else images)
        if self.inner.input_shape[3] == 1:
            prepared = prepared.mean(axis=-1, keepdims=True)
        if self.size != prepared.shape[1:3]:
            prepared = keras.ops.convert_to_numpy(keras.ops.image.resize(prepared, self.size))
        parts = [self.inner.predict_on_batch(prepared[start : start + 32]) for start in range(0, len(prepared), 32)]
        return np.concatenate(parts).astype(np.float32)

    def probs(self, images: UInt8s, name: str) -> Floats:
        """Probabilities (n, classes) of images that are prepared as `name` says."""
        return softmax(_as_logits(self.raw(images, PREPARATIONS[name]), self.answers, np))


def adopt(
    path: Path, *, class_names: tuple[str, ...], image_size: int, known: Known = NOTHING_KNOWN
) -> tuple[keras.Model, Contract]:
    """A user's own classifier, in any Format, as one of our models: 0-255 images in, logits out, with a contract.

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
    inner = open_brought(path)
    size = _read_size(inner, path, known.size, image_size)
    _check_shapes(inner, path, classes=len(class_names), size=size, image_size=image_size)
    asked = _Asked(inner, image_size, size, _rescales(inner))
    noise = np.random.default_rng(0).integers(0, 256, (8, image_size, image_size, 3), np.uint8)
    images = known.images(image_size) if known.images is not None else noise
    asked = replace(asked, answers=_kind_of(inner, asked, images if len(images) else noise, path))
    reading = _reading(asked, known, images, class_names, path)
    model = _wrapped(asked, PREPARATIONS[reading.pixels])
    return model, Contract(
        backbone=inner.name, image_size=image_size, class_names=class_names, brought=reading, bits=known.bits
    )


def _reading(asked: _Asked, known: Known, images: UInt8s, class_names: tuple[str, ...], path: Path) -> Reading:
    shape = asked.size
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
    alone = [asked.raw(images[row : row + 1], PREPARATIONS[PLAIN]) for row in range(min(_ALONE, len(images)))]
    if changed(first[: len(alone)], np.concatenate(alone)):
        raise PredictionError(
            f"{path} answers an image alone differently than among others: a layer such as BatchNormalization is at "
            "work as in training; save the model without `training=True`"
        )
    activation = _last_activation(inner)
    inside = bool((first >= 0).all() and (first <= 1 + _SUM_TOLERANCE).all())
    if first.shape[1] == 1:
        return "sigmoid" if activation == "sigmoid" or (inside and activation is None) else "logits"
    if activation == "softmax" or (inside and bool((np.abs(first.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())):
        return "softmax"
    if bool((first >= 0).all() and (np.abs(first.sum(axis=1) - 100) <= 100 * _SUM_TOLERANCE).all()):
        raise PredictionError(
            f"{path} answers numbers that add up to 100 for each image: percentages, where probabilities or logits are "
            "read; save the model without the multiplication by 100"
        )
    return "sigmoids" if activation == "sigmoid" or (inside and activation != "linear") else "logits"


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

    images = keras.Input((asked.side, asked.side, 3), name="image")
    shown = images
    if asked.inner.input_shape[3] == 1:
        weighted = keras.layers.Rescaling(list(GREY), offset=[0.0] * 3, name="brightness")(images)
        shown = keras.ops.repeat(keras.ops.sum(weighted, axis=-1, keepdims=True), 3, axis=-1)
    prepared = keras.ops.flip(shown, axis=-1) if preparation.bgr else shown
    if preparation != PREPARATIONS[PLAIN]:
        scale, offset = list(preparation.scale), list(preparation.offset)
        prepared = keras.layers.Rescaling(scale, offset=offset, name="prepared")(prepared)
    if asked.inner.input_shape[3] == 1:
        prepared = keras.ops.mean(prepared, axis=-1, keepdims=True)
    if asked.size != (asked.side, asked.side):
        prepared = keras.layers.Resizing(*asked.size, name="resized")(prepared)
    logits = _as_logits(asked.inner(prepared), asked.answers, keras.ops)
    return keras.Model(images, logits, name=asked.inner.name)


def _without_colour(images: UInt8s) -> Floats:
    """The brightness (ITU-R BT.601) of images (n, h, w, 3) in all three channels, as other programs make them grey."""
    brightness = images.astype(np.float32) @ np.array(GREY, np.float32)
    return np.repeat(brightness[..., None], 3, axis=-1)


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


def _read_size(model: keras.Model, path: Path, said: tuple[int, int] | None, side: int) -> tuple[int, int]:
    """Height and width that the model reads; where it reads any, as `said`, else `side`."""
    inputs = model.input_shape
    if not isinstance(inputs, tuple) or len(inputs) != 4 or inputs[3] not in (1, 3):
        raise BackboneError(f"{path} reads {inputs}; allowed is one input (n, height, width, 3), or 1 for grey")
    height, width = inputs[1:3]
    if said is not None and (height or said[0], width or said[1]) != said:
        raise ConfigError(
            f"{path} reads {height or 'any'}x{width or 'any'} pixels; the image size {said[0]}x{said[1]} that "
            "was given does not fit: leave it out"
        )
    return said or (height or side, width or side)


def _check_shapes(model: keras.Model, path: Path, *, classes: int, size: tuple[int, int], image_size: int) -> None:
    outputs = model.output_shape
    if max(size) != image_size:
        raise BackboneError(f"{path} reads {size[0]}x{size[1]} px; set image_size to {max(size)} (it is {image_size})")
    columns = outputs[1] if isinstance(outputs, tuple) and len(outputs) == 2 else None
    if columns != classes and not (columns == 1 and classes == 2):
        hint = "; one column is two classes" if columns == 1 else ""
        raise BackboneError(f"{path} answers {outputs}; allowed is (n, {classes}), one column per class name{hint}")
