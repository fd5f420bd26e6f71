"""Labelled images: what a reader of boxes found, with what it left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from selftrain.data.annotations.table import Annotations
from selftrain.data.label_map import LabelMap
from selftrain.naming import ROWS_NAMED

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),  # as the user's file calls it, with /; the annotations' image_id
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # pixels, as displayed (EXIF applied)
        pa.field("height", pa.int32(), nullable=False),
        pa.field("split", pa.string()),  # train | validation | test, where the source says so
        pa.field("group", pa.string()),  # images that must lie on one side of a split
    ]
)


class Fault(StrEnum):
    """Why an object was left out; the value is what a user reads."""

    OTHER_CLASS = "of a class that was not asked for"
    NO_BOX = "without a box or an outline"
    NOT_NUMBERS = "with coordinates that are not numbers"
    NOT_FINITE = "with infinite coordinates"
    FAR = "more than four times the image away"
    EMPTY_BOX = "with an empty box"
    OUTSIDE = "outside the image"
    APART = "with an outline that lies outside its box"
    ODD_COORDINATES = "with an odd number of coordinates in the outline"
    RLE_SIZE = "with run lengths of another size than the image"
    RLE_COUNTS = "with run lengths that do not add up to the image"


class DrawnBoxes(BaseModel):
    """How many boxes of the classes that were asked for somebody drew, before any was cut or left out.

    `beyond` of them reached beyond their image by more than a pixel, or lay outside it; `examples` name a few.
    """

    model_config = ConfigDict(frozen=True)

    boxes: int = 0
    beyond: int = 0
    examples: tuple[str, ...] = ()

    def and_also(self, others: DrawnBoxes) -> DrawnBoxes:
        """These and those of another source."""
        examples = (*self.examples, *others.examples)[:ROWS_NAMED]
        return DrawnBoxes(boxes=self.boxes + others.boxes, beyond=self.beyond + others.beyond, examples=examples)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The images of a source (IMAGE_SCHEMA), with and without objects, and the objects.

    An image without objects was looked at by people, and holds none. `left_out` counts the objects that could not be
    used. `notes` are what their owner should know. `category_ids` are the user's own numbers of the classes. `drawn`
    says how many boxes reached beyond their images before they were cut.
    """

    images: pa.Table
    annotations: Annotations
    left_out: Mapping[Fault, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    category_ids: tuple[int | str, ...] = ()
    drawn: DrawnBoxes = field(default_factory=DrawnBoxes)

    @property
    def label_map(self) -> LabelMap:
        """The classes, in the order of the labels."""
        return self.annotations.label_map

    @property
    def without_objects(self) -> int:
        """How many images hold no object."""
        return int(np.count_nonzero(self.annotations.spans(self.images["name"])[1] == 0))


@dataclass(frozen=True, eq=False)
class DrawnObjects:
    """n objects as somebody drew them, unchecked; columns of equal length.

    `boxes` (n, 4) x0, y0, x1, y1 in pixels, NaN where there is none. `masks` are COCO's compressed run lengths or None.
    `faults` are what the reader itself found. `scores` are None for what people drew.
    """

    image: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    masks: list[bytes | None]
    crowd: npt.NDArray[np.bool_]
    ids: list[str | None]
    faults: list[Fault | None]
    scores: list[float | None] | None = None
    teachers: list[str | None] | None = None
    rounds: list[int | None] | None = None
