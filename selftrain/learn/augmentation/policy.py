"""Augmentation: random changes to a batch of images that keep their label, as one Keras layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
from keras import ops

from selftrain.config import Augmentation
from selftrain.learn.augmentation.affine import Affine, Fill, gathered
from selftrain.learn.augmentation.randaugment import OPERATIONS, moved, recolour
from selftrain.learn.networks.device import jit

Strength = Literal["weak", "strong"]
FULL_MAGNITUDE = 10.0


@dataclass(frozen=True)
class Policy:
    """The largest random changes. Each image draws its own, up to these limits; 0 switches a change off.

    Shifts, crops and the cut-out square are shares of the image's side.

    - `shift`: moves by parts of a pixel.
    - `crop`: moves by whole pixels, as padding and cropping does.
    - `crop_area`: a part with at least this share of the area is enlarged to the whole image; 1 switches this off.
    - `operations`: how many RandAugment operations an image gets, each at a strength up to `magnitude`, 0-10.
    - `fill`: what lies outside the image: its border pixels repeated, or the image mirrored.
    """

    rotation_degrees: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    crop: float = 0.0
    crop_area: float = 1.0
    flip: bool = False
    operations: int = 0
    magnitude: float = FULL_MAGNITUDE
    cutout: float = 0.0
    fill: Fill = "nearest"

    @property
    def warps(self) -> bool:
        """True if pixels are interpolated, not only moved by whole pixels."""
        moves = max(self.rotation_degrees, self.zoom, self.shear, self.shift)
        return self.operations > 0 or moves > 0 or self.crop_area < 1

    @property
    def moves(self) -> bool:
        """True if pixels change place."""
        return self.warps or self.flip or self.crop > 0


_POLICIES: dict[tuple[str, str], Policy] = {
    # No flips: a mirrored 2 is not a 2.
    ("digits", "weak"): Policy(rotation_degrees=10, zoom=0.1, shear=0.1, shift=0.08),
    # Geometry only: an erased stroke can make another digit.
    ("digits", "strong"): Policy(rotation_degrees=15, zoom=0.15, shear=0.15, shift=0.1),
    # FixMatch's two views, arXiv:2001.07685, section 2.3 and appendix D.
    ("natural", "weak"): Policy(flip=True, crop=0.125, fill="reflect"),
    ("natural", "strong"): Policy(flip=True, crop=0.125, operations=2, cutout=0.5, fill="reflect"),
}


def policy(preset: Augmentation, strength: Strength) -> Policy:
    """The named preset; "none" changes nothing at either strength.

    >>> policy("digits", "strong").flip
    False
    """
    return Policy() if preset == "none" else _POLICIES[preset, strength]


def augmenter(
    preset: Augmentation,
    strength: Strength,
    image_size: int,
    seed: int,
    *,
    operations: int | None = None,
    magnitude: float | None = None,
    crop_area: float = 1.0,
) -> Augment:
    """A layer from images (n, image_size, image_size, 3), uint8 or float 0-255, to augmented float32 of that shape.

    It changes images in training mode only, and runs inside the compiled training step on every Keras backend. Its
    random state is a variable, so that a checkpoint resumes the same stream. `operations` and `magnitude` replace the
    preset's, for strong views only. `crop_area` is the Policy's, for photos ("natural") only: part of a character can
    be another character.
    """
    chosen = policy(preset, strength)
    if preset == "natural":
        chosen = replace(chosen, crop_area=crop_area)
    if strength == "strong" and preset != "none":
        chosen = replace(
            chosen,
            operations=chosen.operations if operations is None else operations,
            magnitude=chosen.magnitude if magnitude is None else magnitude,
        )
    return Augment(chosen, image_size=image_size, seed=seed, name="augment")


class Augment(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Applies a Policy, with random numbers per image: colours first, then all moves in one resampling, then cutout."""

    def __init__(self, policy: Policy, *, image_size: int, seed: int, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.policy = policy
        self.image_size = image_size
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.gathers = keras.backend.backend() == "tensorflow" and jit() is not False

    def call(self, images: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Images (n, s, s, 3) 0-255, float32; unchanged unless `training`."""
        images = ops.cast(images, "float32")
        if not training:
            return images
        p = self.policy
        if p.moves:
            n = ops.shape(images)[0]
            place = self._moved(n)
            if p.crop_area < 1:
                place = self._part(n).then(place)
            images, place = self._operated(images, place)
            images = self._read(images, place.matrix(self.image_size))
        return self._cut_out(images) if p.cutout > 0 else images

    def _read(self, images: keras.KerasTensor, matrix: keras.KerasTensor) -> keras.KerasTensor:
        p = self.policy
        if self.gathers:
            return gathered(images, matrix, fill=p.fill)
        how = "bilinear" if p.warps else "nearest"
        return ops.image.affine_transform(images, matrix, interpolation=how, fill_mode=p.fill)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def _random(self, shape: tuple[Any, ...], low: float, high: float) -> keras.KerasTensor:
        return keras.random.uniform(shape, low, high, seed=self.seed_generator)

    def _within(self, n: keras.KerasTensor, reach: float) -> keras.KerasTensor:
        """(n,) random numbers up to `reach` either side of 0."""
        return self._random((n,), -1, 1) * reach if reach else ops.zeros((n,))

    def _moved(self, n: keras.KerasTensor) -> Affine:
        """Rotation * shear * zoom * flip about the centre, then a shift."""
        p = self.policy
        angle = self._within(n, p.rotation_degrees * math.pi / 180)
        zoom_x = ops.exp(self._within(n, math.log1p(p.zoom)))
        zoom_y = ops.exp(self._within(n, math.log1p(p.zoom)))
        shear = self._random((n,), -p.shear, p.shear) if p.shear else ops.zeros((n,))
        if p.flip:
            zoom_x = zoom_x * ops.where(self._random((n,), 0, 1) < 0.5, -1.0, 1.0)
        cos, sin = ops.cos(angle), ops.sin(angle)
        return Affine(
            xx=cos * zoom_x,
            xy=(cos * shear - sin) * zoom_y,
            yx=sin * zoom_x,
            yy=(sin * shear + cos) * zoom_y,
            x=self._within(n, p.shift * self.image_size) + self._whole(n),
            y=self._within(n, p.shift * self.image_size) + self._whole(n),
        )

    def _part(self, n: keras.KerasTensor) -> Affine:
        """Inception's crop (arXiv:1409.4842, section 6): a part of random area, shape (3/4 to 4/3) and place."""
        area = self._random((n,), self.policy.crop_area, 1)
        shape = ops.exp(self._within(n, math.log(4 / 3) / 2))
        width, height = (ops.minimum(ops.sqrt(area) * ratio, 1.0) for ratio in (shape, 1 / shape))
        none = ops.zeros((n,))
        reach = self.image_size / 2
        x, y = (self._random((n,), -1, 1) * (1 - side) * reach for side in (width, height))
        return Affine(xx=width, xy=none, yx=none, yy=height, x=x, y=y)

    def _operated(self, images: keras.KerasTensor, place: Affine) -> tuple[keras.KerasTensor, Affine]:
        """RandAugment: the images with changed colours, and `place` with the moves still to make."""
        n = ops.shape(images)[0]
        for _ in range(self.policy.operations):
            operation = keras.random.randint((n,), 0, len(OPERATIONS), seed=self.seed_generator)
            strength = self._random((n,), -1, 1) * (self.policy.magnitude / FULL_MAGNITUDE)
            images = recolour(images, operation, ops.abs(strength))
            place = place.then(moved(operation, strength, self.image_size))
        return images, place

    def _whole(self, n: keras.KerasTensor) -> keras.KerasTensor:
        """(n,) whole numbers of pixels that a crop moves by, each equally likely."""
        most = round(self.policy.crop * self.image_size)
        if most == 0:
            return ops.zeros((n,))
        return ops.cast(keras.random.randint((n,), -most, most + 1, seed=self.seed_generator), "float32")

    def _cut_out(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Cutout (arXiv:1708.04552): a square of random side and place becomes grey."""
        n = ops.shape(images)[0]
        half = self._random((n, 1), 0, self.policy.cutout / 2) * self.image_size
        at = ops.reshape(ops.arange(self.image_size, dtype="float32"), (1, -1)) + 0.5
        inside_x = ops.abs(at - self._random((n, 1), 0, 1) * self.image_size) < half
        inside_y = ops.abs(at - self._random((n, 1), 0, 1) * self.image_size) < half
        hole = ops.logical_and(inside_y[:, :, None], inside_x[:, None, :])[..., None]
        return ops.where(hole, 127.5, images)
