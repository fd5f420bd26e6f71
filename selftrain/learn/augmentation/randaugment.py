"""RandAugment (arXiv:1909.13719): each image draws its own operations, computed for the whole batch at once.

The operations and their ranges are FixMatch's (arXiv:2001.07685, table 12). An image's colours are changed operation
by operation. Its moves are composed, so that its pixels are interpolated once.

`keras.layers.RandAugment` draws one operation for the whole batch and computes all of them. At 32 px on two cores it
processes 546 images per second, and 62 on JAX.
"""

from __future__ import annotations

import math

import keras
from keras import ops

from selftrain.learn.augmentation.affine import Affine

OPERATIONS = (
    "identity", "autocontrast", "equalize", "brightness", "color", "contrast", "sharpness", "posterize", "solarize",
    "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip

_BLEND = 0.95  # share of the picture that the strongest blend replaces
_BITS = 4  # of 8 that the strongest posterize drops
_DEGREES = 30.0
_SHEAR = 0.3
_TRANSLATE = 0.3  # of the image's side
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow converts


def recolour(images: keras.KerasTensor, operation: keras.KerasTensor, strength: keras.KerasTensor) -> keras.KerasTensor:
    """Images (n, s, s, 3) 0-255 after each one's `operation` (n,), an index into OPERATIONS, of `strength` (n,) 0-1.

    The levels are those of Pillow's ImageOps and ImageEnhance, except for rounding. Geometric operations change nothing
    here.
    """
    is_ = {name: ops.reshape(ops.equal(operation, i), (-1, 1, 1, 1)) for i, name in enumerate(OPERATIONS)}
    strength = ops.reshape(strength, (-1, 1, 1, 1))
    images = ops.where(is_["equalize"], _equalized(images), images)
    images = ops.where(is_["sharpness"], _sharpened(images, strength), _mixed(images, is_, strength))
    images = ops.clip(ops.round(images), 0.0, 255.0)
    step = ops.where(is_["posterize"], ops.power(2.0, ops.round(_BITS * strength)), 1.0)
    images = ops.floor(images / step) * step
    threshold = ops.where(is_["solarize"], 256 * (1 - strength), 256.0)
    return ops.where(images >= threshold, 255.0 - images, images)


def moved(operation: keras.KerasTensor, strength: keras.KerasTensor, size: int) -> Affine:
    """Where the pixels of `size` px images come from after `operation` (n,) of `strength` (n,), -1 to 1."""

    def amount(name: str) -> keras.KerasTensor:
        return ops.where(ops.equal(operation, OPERATIONS.index(name)), strength, 0.0)

    angle = amount("rotate") * math.radians(_DEGREES)
    cos, sin = ops.cos(angle), ops.sin(angle)
    return Affine(
        xx=cos,
        xy=amount("shear_x") * _SHEAR - sin,
        yx=amount("shear_y") * _SHEAR + sin,
        yy=cos,
        x=amount("translate_x") * (_TRANSLATE * size),
        y=amount("translate_y") * (_TRANSLATE * size),
    )


def _mixed(
    images: keras.KerasTensor, is_: dict[str, keras.KerasTensor], strength: keras.KerasTensor
) -> keras.KerasTensor:
    """Brightness, colour, contrast and autocontrast: each pixel's channels times the image's matrix, plus a bias."""
    grey = ops.convert_to_tensor(_GREY, "float32")
    share = _BLEND * strength  # of black, of the image's greys, or of their mean
    keep = ops.where(_any(is_, "brightness", "color", "contrast"), 1 - share, 1.0)
    low, high = ops.min(images, axis=(1, 2), keepdims=True), ops.max(images, axis=(1, 2), keepdims=True)
    stretch = ops.logical_and(is_["autocontrast"], high > low)
    scale = ops.where(stretch, 255.0 / ops.maximum(high - low, 1.0), keep)
    mean = ops.sum(ops.mean(images, axis=(1, 2), keepdims=True) * grey, axis=-1, keepdims=True)
    bias = ops.where(stretch, -low * scale, ops.where(is_["contrast"], share * mean, 0.0))
    matrix = ops.eye(3) * scale[:, 0] + ops.where(is_["color"], share, 0.0)[:, 0] * grey[:, None]
    pixels = ops.reshape(images, (-1, images.shape[1] * images.shape[2], 3))
    return ops.reshape(ops.matmul(pixels, matrix), (-1, *images.shape[1:])) + bias


def _sharpened(images: keras.KerasTensor, strength: keras.KerasTensor) -> keras.KerasTensor:
    """Each image blended with a smoothed copy of itself."""
    nine = ops.average_pool(images, 3, strides=1, padding="same", data_format="channels_last")
    smooth = (9 * nine + 4 * images) / 13
    return images + (smooth - images) * (_BLEND * strength)


def _any(is_: dict[str, keras.KerasTensor], first: str, *names: str) -> keras.KerasTensor:
    any_of = is_[first]
    for name in names:
        any_of = ops.logical_or(any_of, is_[name])
    return any_of


def _equalized(images: keras.KerasTensor) -> keras.KerasTensor:
    """Each channel of each image with a flat histogram."""
    n, channels = ops.shape(images)[0], images.shape[3]
    tables = n * channels
    values = ops.cast(ops.round(images), "int32")
    first = ops.reshape(ops.arange(tables, dtype="int32") * 256, (-1, 1, 1, channels))
    at = ops.reshape(values + first, (-1,))
    counts = ops.segment_sum(ops.ones_like(at, dtype="float32"), at, num_segments=tables * 256)
    counts = ops.reshape(counts, (-1, 256))
    up_to = ops.cumsum(counts, axis=1)
    last = ops.max(ops.where(counts > 0, up_to - counts, 0.0), axis=1, keepdims=True)  # pixels below the brightest
    step = ops.floor(last / 255)
    table = ops.floor((ops.floor(step / 2) + up_to - counts) / ops.maximum(step, 1.0))
    equal = ops.reshape(ops.take(ops.reshape(ops.minimum(table, 255.0), (-1,)), at), (-1, *images.shape[1:]))
    flat = ops.reshape(ops.equal(step, 0), (-1, 1, 1, channels))
    return ops.where(flat, images, equal)
