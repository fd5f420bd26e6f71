"""Parity of detections: whether an exported detector finds in real images what the detector itself finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from selftrain.adapters.serving.parity import Allowed
from selftrain.errors import ExportError

Floats = npt.NDArray[np.float32]
Found = tuple[Floats, npt.NDArray[np.int64], Floats]
"""Boxes (k, 4) as x0, y0, x1, y1 in pixels of the image, classes (k,) and scores (k,)."""

SAME: float = 0.9
"""The overlap from which two boxes of one class are the same detection."""
EXACT = Allowed(agreement=0.99, difference=0.01)
ROUNDED = Allowed(agreement=0.9, difference=0.05)


class DetectionParity(BaseModel):
    """How an exported detector's answers compare with the detector's own, on `images` with `objects` found in them."""

    model_config = ConfigDict(frozen=True)

    images: int
    objects: int
    agreement: float = Field(description="share of the detections of either that the other has too")
    largest_difference: float = Field(description="of the scores of one detection")


def measure(wanted: Sequence[Found], answered: Sequence[Found], *, least: float) -> DetectionParity:
    """`answered` against `wanted`, a pair for each image. Detections with a score of `least` count.

    A detection near `least` may be above it on one side alone: its counterpart is looked for a little below.

    >>> box = np.float32([[0, 0, 10, 10]])
    >>> one = (box, np.array([1]), np.float32([0.9]))
    >>> measure([one], [(box, np.array([1]), np.float32([0.89]))], least=0.5).agreement
    1.0
    """
    total = same = objects = 0
    largest = 0.0
    for one, other in zip(wanted, answered, strict=True):
        objects += int((one[2] >= least).sum())
        for some, others in ((one, other), (other, one)):
            for box, label, score in zip(*some, strict=True):
                if score < least:
                    continue
                total += 1
                near = (_overlaps(box, others[0]) >= SAME) & (others[1] == label) & (others[2] >= 0.8 * least)
                if near.any():
                    same += 1
                    largest = max(largest, float(np.abs(others[2][near] - score).min()))
    return DetectionParity(
        images=len(wanted), objects=objects, agreement=same / max(total, 1), largest_difference=largest
    )


def check(parity: DetectionParity, allowed: Allowed, *, what: str) -> None:
    """Raise ExportError where `parity` is outside what is `allowed`, or nothing was found that could differ."""
    if not parity.objects:
        raise ExportError(
            f"{what}: no object is found in {parity.images} images, so nothing shows that the new file finds the same; "
            "nothing was written: give images with objects, --images FOLDER"
        )
    if parity.agreement >= allowed.agreement and parity.largest_difference <= allowed.difference:
        return
    raise ExportError(
        f"{what}: {parity.agreement:.1%} of the objects in {parity.images} images are found by both, at "
        f"least {allowed.agreement:.1%} is needed, and scores differ by up to {parity.largest_difference:.2g}, at most "
        f"{allowed.difference:g} is allowed; nothing was written: export without --quantize, or change the limits"
    )


def _overlaps(box: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union (m,) of one box (4,) with others (m, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1).astype(np.float64)
    own, its = np.prod(box[2:] - box[:2]), np.prod(others[:, 2:] - others[:, :2], axis=-1)
    return np.asarray(both / np.maximum(own + its - both, 1e-12))
