"""Drawn scenes: bright squares and discs on a dark, noisy ground."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from selftrain.learn.detection.objects import Objects
from selftrain.learn.detection.scenes import Scenes

NAMES = ("square", "disc")


def drawn_scene(rng: np.random.Generator, *, size: int = 96) -> tuple[np.ndarray, Objects]:
    """An image with one to four objects of 12 to 30 pixels."""
    image = Image.new("RGB", (size, size), tuple(rng.integers(10, 60, 3).tolist()))
    draw, boxes, classes = ImageDraw.Draw(image), [], []
    for _ in range(rng.integers(1, 5)):
        side = rng.integers(12, 30)
        x, y = rng.integers(0, size - side, 2).tolist()
        kind = int(rng.integers(len(NAMES)))
        shape = draw.ellipse if kind else draw.rectangle
        shape((x, y, x + side - 1, y + side - 1), fill=tuple(rng.integers(140, 255, 3).tolist()))
        boxes.append((x, y, x + side, y + side))
        classes.append(kind)
    noisy = np.asarray(image, np.int16) + rng.integers(-8, 8, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8), Objects.of(np.array(boxes, np.float32), np.array(classes))


def drawn_scenes(count: int, *, seed: int) -> Scenes:
    """`count` scenes with their objects."""
    rng = np.random.default_rng(seed)
    images, objects = zip(*(drawn_scene(rng) for _ in range(count)), strict=True)
    return Scenes(images, objects)


def without_labels(scenes: Scenes) -> Scenes:
    """The same images, whose objects nobody marked."""
    none = Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return Scenes(scenes.images, tuple(none for _ in scenes.images))
