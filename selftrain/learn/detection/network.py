"""The detector: a backbone, a pyramid of features, and two heads that all levels share (FCOS, arXiv:1904.01355)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import keras
import numpy as np

from selftrain.errors import BackboneError
from selftrain.ladder import resolve
from selftrain.learn.networks.backbones import open_trunk, preprocessed

SIDES_PER_STRIDE = 6.0
"""A level answers for objects up to so many of its strides long, but the last one for all that are longer."""
STRIDES = (4, 8, 16, 32)
_PRIOR = 0.01  # of an object at a location, before training


PROTOTYPES = 16
"""Maps that masks are mixed from."""


@dataclass(frozen=True)
class DetectorShape:
    """How a detector is built: its backbone, its levels by `strides`, and the width and depth of its heads."""

    backbone: str
    classes: int
    weights: str | None = None
    strides: tuple[int, ...] = STRIDES
    channels: int = 32
    convolutions: int = 2
    masks: int = 0
    """Prototypes that masks are mixed from; 0: boxes alone."""

    @property
    def tops(self) -> tuple[float, ...]:
        """The longest side, in pixels, that each level answers for; the last one is not read."""
        return tuple(SIDES_PER_STRIDE * stride for stride in self.strides)

    @property
    def step(self) -> int:
        """What the sides of an image must be a multiple of."""
        return max(self.strides)


def levels_for(sides: np.ndarray) -> tuple[int, ...]:
    """The strides for objects whose longer sides (n,) in pixels are `sides`: those that most objects fall to.

    The finest level is left out where under 2 % of the objects are for it or finer ones. Coarser ones than the longest
    objects need are kept up to 32, because their wide view helps the others.

    >>> levels_for(np.array([10.0, 15.0, 30.0])), levels_for(np.array([80.0, 200.0]))
    ((4, 8, 16, 32), (8, 16, 32))
    """
    small = float(np.quantile(sides, 0.02)) if len(sides) else 0.0
    finest = next((stride for stride in STRIDES[:-2] if small <= SIDES_PER_STRIDE * stride), STRIDES[-3])
    return tuple(stride for stride in STRIDES if stride >= min(finest, 8))


def build_detector(shape: DetectorShape, *, seed: int = 0) -> keras.Model:
    """A model from images (n, h, w, 3), 0-255, to answers (n, l, classes + 4).

    With `shape.masks`, answers are (n, l, masks + classes + 4), and prototypes (n, h / s, w / s, masks) of the finest
    stride s follow: an object's mask is where their mixture, by its location's first numbers, is above 0 within its box
    (YOLACT, arXiv:1904.02689).

    The sides of an image are multiples of `shape.step`. Each of the l locations, in the order of `boxes.grid`, has a
    logit per class and a box as `boxes.decoded` reads it.
    One set of weights serves every size. Raises BackboneError for a backbone without feature maps at these strides.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="image")
    rung = resolve(shape.backbone)
    trunk = open_trunk(rung, weights=shape.weights)
    backbone = keras.Model(trunk.input, _maps(trunk, shape.strides), name="backbone")
    maps = backbone(preprocessed(rung, images, weights=shape.weights))
    features = _pyramid(maps if isinstance(maps, list) else [maps], shape)
    named, placed = _tower("class", shape), _tower("box", shape)
    mixed = keras.layers.Conv2D(shape.masks, 3, padding="same", name="mixture") if shape.masks else None
    class_head = keras.layers.Conv2D(
        shape.classes,
        3,
        padding="same",
        bias_initializer=keras.initializers.Constant(-math.log((1 - _PRIOR) / _PRIOR)),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=seed),
        name="class_logits",
    )
    box_head = keras.layers.Conv2D(4, 3, padding="same", name="boxes")
    every = []
    for feature in features:
        parts = [class_head(named(feature)), where := placed(feature)]
        parts = [parts[0], box_head(where)] if mixed is None else [mixed(where), parts[0], box_head(where)]
        every.append(keras.layers.Reshape((-1, shape.masks + shape.classes + 4))(keras.layers.Concatenate()(parts)))
    answers = keras.layers.Concatenate(axis=1, dtype="float32", name="answers")(every)
    outputs = answers if mixed is None else [answers, _prototypes(features[0], shape)]
    return keras.Model(images, outputs, name="detector")


def _prototypes(finest: keras.KerasTensor, shape: DetectorShape) -> keras.KerasTensor:
    """The maps that masks are mixed from, at the finest stride."""
    maps = _tower("prototype", shape)(finest)
    return keras.layers.Conv2D(shape.masks, 1, dtype="float32", name="prototypes")(maps)


def _maps(trunk: keras.Model, strides: tuple[int, ...]) -> list[keras.KerasTensor]:
    """The last feature map of `trunk` at each of `strides`."""
    probe = 32 * max(strides)  # so large that no padded map has the size of another level
    outputs = [layer.output for layer in trunk.layers if hasattr(layer, "output") and _is_map(layer.output)]
    shapes = keras.Model(trunk.input, outputs).compute_output_shape((1, probe, probe, 3))
    last = {probe // s[1]: output for output, s in zip(outputs, shapes, strict=True) if s[1] and probe % s[1] == 0}
    missing = [stride for stride in strides if stride not in last]
    if missing:
        raise BackboneError(f"{trunk.name} has no feature map at strides {missing}; it has {sorted(last)}; use another")
    return [last[stride] for stride in strides]


def _is_map(tensor: object) -> bool:
    return not isinstance(tensor, (list, tuple, dict)) and len(getattr(tensor, "shape", ())) == 4


def _pyramid(maps: list[keras.KerasTensor], shape: DetectorShape) -> list[keras.KerasTensor]:
    """Feature maps of one width, each with what the coarser ones know (arXiv:1612.03144), from fine to coarse."""
    narrow = [keras.layers.Conv2D(shape.channels, 1, name=f"lateral_{stride}") for stride in shape.strides]
    merged = [layer(each) for layer, each in zip(narrow, maps, strict=True)]
    for fine, coarse in pairwise(reversed(range(len(merged)))):
        merged[coarse] = keras.layers.Add()([merged[coarse], keras.layers.UpSampling2D(2)(merged[fine])])
    smooth = [
        keras.layers.Conv2D(shape.channels, 3, padding="same", name=f"smooth_{stride}") for stride in shape.strides
    ]
    return [layer(each) for layer, each in zip(smooth, merged, strict=True)]


def _tower(name: str, shape: DetectorShape) -> keras.Sequential:
    """The convolutions of a head, the same for all levels. Group normalisation knows nothing of the batch."""
    layers: list[keras.layers.Layer] = [keras.Input((None, None, shape.channels))]
    for index in range(shape.convolutions):
        layers.append(keras.layers.Conv2D(shape.channels, 3, padding="same", use_bias=False, name=f"{name}_{index}"))
        layers.append(keras.layers.GroupNormalization(groups=8, name=f"{name}_norm_{index}"))
        layers.append(keras.layers.Activation("relu"))
    return keras.Sequential(layers, name=f"{name}_tower")


def freeze_statistics(model: keras.Model) -> None:
    """Keep every batch norm of `model` as it is, also in training: its statistics, and its scale and offset.

    `training=False` in the call of an inner model would not do it: the outer call's mode goes before.
    """
    from selftrain.learn.networks.batchnorm import layers_of_type

    for layer in layers_of_type(model, keras.layers.BatchNormalization):
        layer.trainable = False
