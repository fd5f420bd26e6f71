"""Views of an image with its objects: one affine draw moves pixels and boxes; a strong view changes pixels only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from selftrain.learn.shapes.objects import Objects
from selftrain.learn.shapes.outlines import patches

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

VISIBLE = 0.25
"""An object of which a view holds a smaller share is left out of it."""
_SMALLEST = 2.0  # pixels: what is narrower or lower in a view is ignored there
GREY = 114
"""Of what a view or a canvas shows outside the image."""


@dataclass(frozen=True)
class Moves:
    """What an affine draw may do: scale from `smallest` to `largest`, mirror left to right, turn by quarters, shear."""

    smallest: float = 0.7
    largest: float = 1.4
    mirror: bool = True
    turns: bool = False
    shear: float = 0.0


def drawn(rng: np.random.Generator, moves: Moves, height: int, width: int, size: int) -> Matrix:
    """A matrix (2, 3) from points of an image of `height` by `width` to those of a view of `size` by `size` pixels.

    Points are x, y from the upper left corner. The view's centre shows a random place of the image; where the image is
    larger than the view, the view is full.
    """
    scale = rng.uniform(moves.smallest, moves.largest)
    turn = np.pi / 2 * rng.integers(4) if moves.turns else 0.0
    lean = np.array([[1.0, rng.uniform(-moves.shear, moves.shear)], [0.0, 1.0]])
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.array([[cos, -sin], [sin, cos]]) @ lean * scale
    if moves.mirror and rng.random() < 0.5:
        turned = turned @ np.diag([-1.0, 1.0])
    if moves.turns and rng.random() < 0.5:
        turned = turned @ np.diag([1.0, -1.0])
    reach = size / 2 / scale  # of the view, in the image
    middle = [rng.uniform(reach, side - reach) if side > 2 * reach else side / 2 for side in (width, height)]
    return np.concatenate([turned, (size / 2 - turned @ np.array(middle))[:, None]], axis=1)


def seen(image: Pixels, matrix: Matrix, size: int) -> Pixels:
    """The view (size, size, 3) of `image` (h, w, 3) that `matrix` shows; what lies outside the image is grey."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    view = Image.fromarray(image).transform(
        (size, size),
        Image.Transform.AFFINE,
        tuple(inverse.reshape(-1)),
        resample=Image.Resampling.BILINEAR,
        fillcolor=(GREY, GREY, GREY),
    )
    return np.asarray(view)


def moved(objects: Objects, matrix: Matrix, size: int) -> Objects:
    """The objects in the view that `matrix` shows: the bounds of their mapped corners, cut to the view.

    What is less than VISIBLE to see is left out; what is then too small to learn from is ignored.
    """
    boxes = objects.boxes.astype(np.float64)
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ matrix[:, :2].T + matrix[:, 2]  # (k, 4, 2)
    whole = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    inside = np.clip(whole, 0, size)
    left = _areas(inside) / np.maximum(_areas(whole), 1e-9)
    kept = np.flatnonzero((left >= VISIBLE) | (objects.ignored & (_areas(inside) > 0)))
    view = objects.at(kept).moved(inside[kept].astype(np.float32))
    small = (view.boxes[:, 2:] - view.boxes[:, :2]).min(axis=1, initial=np.inf) < _SMALLEST
    seen_of_masks = None if view.outlines is None else patches(view.outlines, view.boxes, matrix)
    return replace(view, ignored=view.ignored | small, patches=seen_of_masks)


def shrunk(image: Pixels, longest: int) -> Pixels:
    """`image` (h, w, 3), made smaller if its longer side is above `longest` pixels; training and detection share it."""
    scale = longest / max(image.shape[0], image.shape[1])
    if scale >= 1:
        return image
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _areas(boxes: Matrix) -> Matrix:
    areas: Matrix = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def strong(rng: np.random.Generator, view: Pixels) -> Pixels:
    """A view with other light, colours, sharpness and noise, and pieces cut out; every object stays where it is."""
    image = Image.fromarray(view)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.5))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.5, 1.5))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.0, 1.5))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 1.5)))
    pixels = np.asarray(image, np.float32) * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(2, 12), pixels.shape).astype(np.float32)
    out = np.clip(pixels, 0, 255).astype(np.uint8)
    size = len(out)
    for _ in range(rng.integers(4)):
        side = rng.uniform(0.05, 0.2, 2) * size
        y, x = (rng.uniform(0, size - length) for length in side)
        out[int(y) : int(y + side[0]), int(x) : int(x + side[1])] = GREY
    return out
