"""Drawn scenes: bright squares and discs on a dark, noisy ground."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from selftrain.data.annotations.run_lengths import mask_of
from selftrain.learn.detection.scenes import Scenes
from selftrain.learn.shapes.objects import Objects
from selftrain.learn.shapes.outlines import Outline

NAMES = ("square", "disc")


def drawn_scene(rng: np.random.Generator, *, size: int = 96) -> tuple[np.ndarray, Objects]:
    """An image with one to four objects of 12 to 30 pixels, and their outlines."""
    image = Image.new("RGB", (size, size), tuple(rng.integers(10, 60, 3).tolist()))
    draw, boxes, classes, outlines = ImageDraw.Draw(image), [], [], []
    for _ in range(rng.integers(1, 5)):
        side = rng.integers(12, 30)
        x, y = rng.integers(0, size - side, 2).tolist()
        kind = int(rng.integers(len(NAMES)))
        mask = Image.new("L", (size, size))
        for on, fill in ((draw, tuple(rng.integers(140, 255, 3).tolist())), (ImageDraw.Draw(mask), 1)):
            (on.ellipse if kind else on.rectangle)((x, y, x + side - 1, y + side - 1), fill=fill)
        outlines.append(Outline(mask_of(np.asarray(mask) > 0), size, size))
        boxes.append((x, y, x + side, y + side))
        classes.append(kind)
    noisy = np.asarray(image, np.int16) + rng.integers(-8, 8, (size, size, 3))
    drawn = np.empty(len(outlines), object)
    drawn[:] = outlines
    own = Objects.of(np.array(boxes, np.float32), np.array(classes), outlines=drawn)
    return noisy.clip(0, 255).astype(np.uint8), own


def drawn_scenes(count: int, *, seed: int) -> Scenes:
    """`count` scenes with their objects."""
    rng = np.random.default_rng(seed)
    images, objects = zip(*(drawn_scene(rng) for _ in range(count)), strict=True)
    return Scenes(images, objects)


def without_labels(scenes: Scenes) -> Scenes:
    """The same images, whose objects nobody marked."""
    none = Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return Scenes(scenes.images, tuple(none for _ in scenes.images))
