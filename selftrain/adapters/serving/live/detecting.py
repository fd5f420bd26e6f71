"""Detecting: a detector that many threads may ask; images of one request are looked at together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.learn.detection.saving import DetectorContract

if TYPE_CHECKING:
    from selftrain.learn.detection.detect import Detector

Pixels = npt.NDArray[np.uint8]
AT_ONCE = 8  # images that are held decoded, at their own size, and looked at together


class LockedDetector:
    """A detector that answers one caller at a time. It compiles a network for each new size of images."""

    def __init__(self, detector: Detector, contract: DetectorContract) -> None:
        self.contract = contract
        self._detector, self._turn = detector, threading.Lock()
        self.found([np.zeros((64, 64, 3), np.uint8)])

    def found(
        self, images: Sequence[Pixels]
    ) -> list[tuple[list[list[float]], list[str], list[float], list[dict[str, object]] | None]]:
        """Of each image (h, w, 3): boxes (k, 4) as x, y, width, height in pixels, labels (k,), scores (k,), masks (k,).

        Masks are as `Detections.plain` has them.
        """
        with self._turn:
            answers = self._detector(images, batch_size=1 if len(images) == 1 else AT_ONCE)
        return [each.plain(self.contract.class_names) for each in answers]

    def confidence(self, labels: Sequence[str], scores: Sequence[float]) -> float:
        """How sure it is of an image: the score of the least sure object, of those from their class's threshold on.

        Where it finds no such object, it is sure: 1.
        """
        least = self.contract.thresholds
        return min([s for name, s in zip(labels, scores, strict=True) if s >= least.get(name, 0.0)], default=1.0)
