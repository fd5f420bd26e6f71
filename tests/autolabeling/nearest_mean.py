"""A classifier by hand that autolabel's tests ask, and the types of what it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LABELED = 400


class NearestMean:
    """A classifier by hand: the nearer an image is to the mean of a class, the higher its logit."""

    def __init__(self, images: Pixels, labels: Ints) -> None:
        flat = images.reshape(len(images), -1).astype(np.float32)
        self.means = np.stack([flat[labels == digit].mean(axis=0) for digit in range(10)])
        self.asked = 0

    def __call__(self, images: npt.NDArray[Any]) -> Floats:
        self.asked += len(images)
        flat = images.reshape(len(images), -1).astype(np.float32)
        squares = ((flat[:, None] - self.means[None]) ** 2).sum(axis=2)
        logits: Floats = (-squares / 20_000).astype(np.float32)
        return logits
