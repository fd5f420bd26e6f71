"""Augmentation: random changes to a batch of images that keep their label, as one Keras layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import ops

from selftrain.config import Augmentation


@dataclass(frozen=True)
class Policy:
    """Largest random changes. Shifts and the erased square are shares of the image's side, colours of 255."""

    rotation_degrees: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0

    @property
    def moves(self) -> bool:
        """True if pixels change place."""
        return self.flip or max(self.rotation_degrees, self.zoom, self.shear, self.shift) > 0

    @property
    def colours(self) -> bool:
        """True if pixels change value."""
        return max(self.brightness, self.contrast, self.saturation) > 0


_POLICIES: dict[tuple[str, str], Policy] = {
    # A mirrored 2 is no 2: no flips.
    ("digits", "weak"): Policy(rotation_degrees=10, zoom=0.1, shear=0.1, shift=0.08),
    # Geometry only: an erased stroke can make another digit.
    ("digits", "strong"): Policy(rotation_degrees=15, zoom=0.15, shear=0.15, shift=0.1),
    ("natural", "weak"): Policy(flip=True, shift=0.1, zoom=0.1),
    ("natural", "strong"): Policy(
        flip=True, rotation_degrees=10, zoom=0.25, shear=0.1, shift=0.125,
        brightness=0.2, contrast=0.3, saturation=0.4, erase=0.3,
    ),
}  # fmt: skip


def policy(preset: Augmentation, strength: Literal["weak", "strong"]) -> Policy:
    """The named preset; "none" changes nothing at either strength.

    >>> policy("digits", "strong").flip
    False
    """
    return Policy() if preset == "none" else _POLICIES[preset, strength]


def augmenter(preset: Augmentation, strength: Literal["weak", "strong"], image_size: int, seed: int) -> Augment:
    """A layer from images (n, image_size, image_size, 3), uint8 or float 0-255, to augmented float32 of that shape.

    It changes images in training mode only, runs inside the compiled training step on every Keras backend, and its
    random state is a variable, so that a checkpoint resumes the same stream.
    """
    return Augment(policy(preset, strength), image_size=image_size, seed=seed, name="augment")


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """Applies a Policy, every image with its own random numbers."""

    def __init__(self, policy: Policy, *, image_size: int, seed: int, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.policy = policy
        self.image_size = image_size
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Images (n, s, s, 3) 0-255, float32; unchanged unless `training`."""
        images = ops.cast(images, "float32")
        if not training:
            return images
        if self.policy.moves:
            images = ops.image.affine_transform(images, self._transform(ops.shape(images)[0]), fill_mode="nearest")
        if self.policy.colours:
            images = self._recolour(images)
        return self._erase(images) if self.policy.erase > 0 else images

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def _random(self, shape: tuple[Any, ...], low: float, high: float) -> keras.KerasTensor:
        return keras.random.uniform(shape, low, high, seed=self.seed_generator)

    def _transform(self, n: keras.KerasTensor) -> keras.KerasTensor:
        """(n, 8): output pixel to input pixel, rotation * shear * zoom * flip about the centre, then a shift."""
        p = self.policy
        angle = self._random((n,), -1, 1) * (p.rotation_degrees * math.pi / 180)
        zoom_x = ops.exp(self._random((n,), -1, 1) * math.log1p(p.zoom))
        zoom_y = ops.exp(self._random((n,), -1, 1) * math.log1p(p.zoom))
        shear = self._random((n,), -p.shear, p.shear)
        if p.flip:
            zoom_x = zoom_x * ops.where(self._random((n,), 0, 1) < 0.5, -1.0, 1.0)
        cos, sin = ops.cos(angle), ops.sin(angle)
        xx, xy = cos * zoom_x, (cos * shear - sin) * zoom_y
        yx, yy = sin * zoom_x, (sin * shear + cos) * zoom_y
        centre = (self.image_size - 1) / 2
        reach = p.shift * self.image_size
        to_x = centre - (xx + xy) * centre + self._random((n,), -1, 1) * reach
        to_y = centre - (yx + yy) * centre + self._random((n,), -1, 1) * reach
        none = ops.zeros_like(xx)
        return ops.stack([xx, xy, to_x, yx, yy, to_y, none, none], axis=1)

    def _recolour(self, images: keras.KerasTensor) -> keras.KerasTensor:
        p = self.policy
        one = (ops.shape(images)[0], 1, 1, 1)
        if p.saturation > 0:
            grey = ops.mean(images, axis=-1, keepdims=True)
            images = grey + (images - grey) * (1 + self._random(one, -p.saturation, p.saturation))
        mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
        images = mean + (images - mean) * (1 + self._random(one, -p.contrast, p.contrast))
        return ops.clip(images + self._random(one, -1, 1) * (255 * p.brightness), 0.0, 255.0)

    def _erase(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Cutout (arXiv:1708.04552): a square of random side and place becomes the image's mean colour."""
        n = ops.shape(images)[0]
        half = self._random((n, 1), 0, self.policy.erase / 2) * self.image_size
        at = ops.reshape(ops.arange(self.image_size, dtype="float32"), (1, -1))
        inside_x = ops.abs(at - self._random((n, 1), 0, 1) * self.image_size) < half
        inside_y = ops.abs(at - self._random((n, 1), 0, 1) * self.image_size) < half
        hole = ops.logical_and(inside_y[:, :, None], inside_x[:, None, :])[..., None]
        return ops.where(hole, ops.mean(images, axis=(1, 2), keepdims=True), images)
