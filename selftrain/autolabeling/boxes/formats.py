"""Formats of boxes: how four numbers are read, and which format explains what a detector answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
BoxFormat = Literal[
    "xyxy",
    "xywh",
    "center_xywh",
    "yxyx",
    "rel_xyxy",
    "rel_xywh",
    "rel_center_xywh",
    "rel_yxyx",
]
"""Keras' names: corners, or a corner or centre with width and height; `rel_` numbers are shares of the image."""

FORMATS: Final[tuple[BoxFormat, ...]] = get_args(BoxFormat)
READ_AS: Final[dict[str, str]] = {
    "xyxy": "x0, y0, x1, y1",
    "xywh": "x, y, width, height",
    "center_xywh": "centre x, centre y, width, height",
    "yxyx": "y0, x0, y1, x1",
}
OVERLAP: Final = 0.5
ENOUGH: Final = 20
"""Boxes that are looked at before a format is refused without labelled images."""


def described(form: BoxFormat) -> str:
    """The format in words.

    >>> described("rel_xywh")
    'x, y, width, height as shares of the image'
    """
    return READ_AS[form.removeprefix("rel_")] + (" as shares of the image" if form.startswith("rel_") else " in pixels")


def as_corners(boxes: Floats, form: BoxFormat, *, height: int, width: int) -> Floats:
    """Boxes (k, 4) of `form` as x0, y0, x1, y1 in pixels of an image of `height` and `width`.

    >>> as_corners(np.float32([[0.5, 0.5, 0.2, 0.4]]), "rel_center_xywh", height=10, width=20).tolist()
    [[8.0, 3.0, 12.0, 7.0]]
    """
    plain = form.removeprefix("rel_")
    if plain == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if form.startswith("rel_"):
        boxes = boxes * np.array([width, height, width, height], np.float32)
    if plain in ("xyxy", "yxyx"):
        return boxes
    start = boxes[:, :2] - (boxes[:, 2:] / 2 if plain == "center_xywh" else 0)
    return np.concatenate([start, start + boxes[:, 2:]], axis=1)


def overlaps(some: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union (k, m) of boxes (k, 4) and (m, 4), as corners; 0 for a box without an area."""
    one, two = some.astype(np.float64), others.astype(np.float64)
    low, high = np.maximum(one[:, None, :2], two[None, :, :2]), np.minimum(one[:, None, 2:], two[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    own, its = (np.prod(np.maximum(each[:, 2:] - each[:, :2], 0), axis=-1) for each in (one, two))
    return np.asarray(both / np.maximum(own[:, None] + its[None, :] - both, 1e-12))


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled image: the `answered` boxes (k, 4) as they came, the `marked` ones (m, 4) as corners in pixels."""

    answered: Floats
    marked: Floats
    height: int
    width: int


def found_shares(samples: Sequence[Sample]) -> dict[BoxFormat, float]:
    """The share of the marked objects that a box of each format finds, whatever its class; 0 without any object."""
    total = max(1, sum(len(each.marked) for each in samples))
    return {form: sum(_found(each, form) for each in samples) / total for form in FORMATS}


def _found(sample: Sample, form: BoxFormat) -> int:
    if not len(sample.answered) or not len(sample.marked):
        return 0
    corners = as_corners(sample.answered, form, height=sample.height, width=sample.width)
    return int((overlaps(corners, sample.marked).max(axis=0) >= OVERLAP).sum())


def better_format(shares: dict[BoxFormat, float], declared: BoxFormat) -> BoxFormat | None:
    """Another format that explains the answers far better than the `declared` one, or None.

    It must find a tenth of the objects, and twice as many as the declared one.

    >>> better_format(dict.fromkeys(FORMATS, 0.0) | {"xyxy": 0.1, "xywh": 0.6}, "xyxy")
    'xywh'
    >>> better_format(dict.fromkeys(FORMATS, 0.3), "xyxy") is None
    True
    """
    best = max(FORMATS, key=lambda form: shares[form])
    return best if shares[best] >= 0.1 and shares[best] > 2 * shares[declared] else None


@dataclass
class Shape:
    """What the boxes of all images have looked like so far, read as the declared format."""

    boxes: int = 0
    """How many came."""
    backwards: int = 0
    """Boxes that end before they begin."""
    tiny: int = 0
    """Boxes whose four numbers lie between 0 and 1.5, which pixels hardly do."""
    outside: int = 0
    """Boxes that reach out of the image by more than a tenth of its side."""

    def add(self, raw: Floats, corners: Floats, *, height: int, width: int) -> None:
        """Take in the boxes (k, 4) of one image, as they came and as `corners` in pixels."""
        self.boxes += len(raw)
        self.backwards += int((corners[:, 2:] <= corners[:, :2]).any(axis=1).sum())
        self.tiny += int(((raw >= -0.5) & (raw <= 1.5)).all(axis=1).sum())
        side = np.array([width, height, width, height], np.float32)
        beyond = np.maximum(-corners, corners - side) > 0.1 * side
        self.outside += int(beyond.any(axis=1).sum())

    def wrong(self, form: BoxFormat) -> str | None:
        """Why the boxes cannot be `form`, or None; never before ENOUGH boxes came."""
        if self.boxes < ENOUGH:
            return None
        relative = form.startswith("rel_")
        if not relative and self.tiny > 0.9 * self.boxes:
            return (
                f"{self.tiny} of {self.boxes} boxes lie between 0 and 1.5: shares of the image, not pixels; "
                f"say box_format='rel_{form}'"
            )
        if relative and not self.tiny:
            plain = form.removeprefix("rel_")
            return f"none of {self.boxes} boxes lies between 0 and 1: pixels, not shares; say box_format={plain!r}"
        if self.backwards > 0.2 * self.boxes:
            return (
                f"{self.backwards} of {self.boxes} boxes end before they begin, read as {described(form)}; say what "
                f"they are with box_format, one of {', '.join(FORMATS)}"
            )
        return None

    def doubtful(self, form: BoxFormat) -> str | None:
        """What their owner should look at, or None; of fewer than ENOUGH boxes only what is odd about all."""
        if 0 < self.boxes < ENOUGH:
            relative = form.startswith("rel_")
            odd = {
                "lie between 0 and 1.5: are they shares of the image?": self.tiny if not relative else 0,
                "are larger than 1: are they pixels?": self.boxes - self.tiny if relative else 0,
                "end before they begin": self.backwards,
                "reach out of their image by more than a tenth of it": self.outside,
            }
            said = next((what for what, count in odd.items() if count == self.boxes), None)
            return f"all {self.boxes} boxes, read as {described(form)}, {said}" if said else None
        if self.boxes >= ENOUGH and self.outside > 0.2 * self.boxes:
            return (
                f"{self.outside} of {self.boxes} boxes reach out of their image by more than a tenth of it, read as "
                f"{described(form)}: look at some, or give labelled images, which the format is measured on"
            )
        return None
