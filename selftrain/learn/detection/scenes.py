"""Scenes: images with their objects, and the views of them that one step of a training sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from selftrain.learn.detection.views import Moves, Pixels, drawn, moved, seen, strong
from selftrain.learn.shapes.objects import Objects

T = TypeVar("T")

_TRIES = 4  # draws of a view, until one holds an object


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images (h, w, 3) of any sizes, 0-255, and the objects of each; images without labels have none."""

    images: Sequence[Pixels]
    objects: Sequence[Objects]

    def __len__(self) -> int:
        return len(self.images)

    def longer_sides(self) -> NDArray[np.float32]:
        """The longer side of every object that is not ignored, in pixels."""
        sides = [(each.boxes[:, 2:] - each.boxes[:, :2]).max(axis=1)[~each.ignored] for each in self.objects]
        return np.concatenate([np.empty(0, np.float32), *sides])


@dataclass(frozen=True, eq=False)
class Views:
    """Views of a batch: `weak` (n, s, s, 3), the same ones changed `strong`ly, and their objects."""

    weak: Pixels
    strong: Pixels
    objects: tuple[Objects, ...]


def views_of(
    scenes: Scenes, seed: Sequence[int], *, count: int, size: int, moves: Moves, share_strong: float = 1.0
) -> Views:
    """`count` views of `size` pixels, of images drawn by `seed`; a share of them is changed strongly.

    A view without any object of an image that has some is drawn again, a few times.
    """
    rng = np.random.default_rng(list(seed))
    weak, changed, objects = [], [], []
    for index in rng.integers(len(scenes), size=count):
        image, own = scenes.images[index], scenes.objects[index]
        for _ in range(_TRIES):
            matrix = drawn(rng, moves, image.shape[0], image.shape[1], size)
            view = moved(own, matrix, size)
            if len(view) or not len(own):
                break
        weak.append(seen(image, matrix, size))
        changed.append(strong(rng, weak[-1]) if rng.random() < share_strong else weak[-1])
        objects.append(view)
    return Views(np.stack(weak), np.stack(changed), tuple(objects))


def ahead(make: Callable[[int], T], steps: range, *, depth: int = 3) -> Iterator[T]:
    """`make(step)` of every step in order, up to `depth` of them made in a thread before they are asked for."""
    with ThreadPoolExecutor(1) as pool:
        left = iter(steps)
        waiting: list[Future[T]] = [pool.submit(make, step) for step in islice(left, depth)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(make, step) for step in islice(left, 1)]
