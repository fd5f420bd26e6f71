"""Performance: how often the champion's recorded answers in production agree with the labels that came later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Performance:
    """Of `images` labelled production images that this model version answered, the share that it got right, 0-1."""

    accuracy: float
    images: int


LEAST = 20  # labelled images that an accuracy needs, so that one wrong label decides nothing


def performance(intake: pa.Table, labels: Mapping[str, str], *, version: str, least: int = LEAST) -> Performance | None:
    """The performance of model `version` on the rows of `intake` whose image has one of `labels` (image_id -> class).

    Only answers that production recorded beside an image count, each image once, by its first answer. None where fewer
    than `least` images are known: an unknown accuracy is not a low one.
    """
    answered = intake.filter(pc.fill_null(pc.equal(intake["answered_by"], version), False))
    right: dict[str, bool] = {}
    for image_id, answer in zip(answered["image_id"].to_pylist(), answered["answer"].to_pylist(), strict=True):
        if image_id in labels and image_id not in right:
            right[image_id] = labels[image_id] == answer
    return Performance(sum(right.values()) / len(right), len(right)) if len(right) >= max(least, 1) else None
