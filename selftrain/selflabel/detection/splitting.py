"""Splits of images with boxes: what the source says, else by shares of the images and of the objects of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.config import Splitting
from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.images.decode import MAX_PIXELS, examine
from selftrain.data.images.near_duplicates import groups, near_duplicates
from selftrain.data.images.openers import image_bytes
from selftrain.data.images.phash import phash
from selftrain.data.manifest import Split
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.data.splits.group_split import UserGroups
from selftrain.data.splits.split import TooFewImagesError, assign
from selftrain.errors import ImageError, SourceError

FEWEST = 2
"""Images that each split needs."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The rows of the images of each split.

    `copies` are in none: they look like images that the source holds out, or share a group with them.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    copies: tuple[int, ...] = ()


def split_rows(
    labelled: LabelledImages, *, validation: float, test: float, seed: int, alike: Int64s | None = None
) -> Rows:
    """The rows of `labelled` for training, validation and test, by the rule of `data.splits.split`.

    Images of one group stay together, and so do those with the same number in `alike` (n,). Raises SourceError if a
    split has under FEWEST images.
    """
    names = labelled.images["name"].to_pylist()
    group = labelled.images["group"].combine_chunks().dictionary_encode()
    code = np.asarray(group.indices.fill_null(-1), dtype=np.int64)
    near = np.arange(len(names)) if alike is None else alike
    try:
        made = assign(
            names,
            np.zeros(len(names), np.int64),
            near,
            splitting=Splitting(validation=validation, test=test, seed=seed, min_per_class=FEWEST),
            class_names=("labelled images",),
            source_splits=labelled.images["split"].to_pylist(),
            user_groups=UserGroups(code, group.dictionary.to_pylist()),
            contents=ObjectCounts.of(labelled.annotations, names),
        )
    except TooFewImagesError as error:
        has = ", ".join(f"{count} for {split}" for split, count in error.counts.items())
        raise SourceError(
            f"{len(names)} labelled images leave {has}; each needs {FEWEST}, and copies and groups stay together: "
            "label more images"
        ) from error
    train, held, tested = (_rows(made.kept & (made.splits == split)) for split in Split if split is not Split.UNLABELED)
    return Rows(train, held, tested, _rows(~made.kept))


def look_alikes(paths: Sequence[str]) -> Int64s:
    """(n,) a number for each image file, the same for near-duplicates; a file that cannot be decoded has its own."""
    gray = np.zeros((len(paths), 32, 32), np.uint8)
    read = np.zeros(len(paths), np.bool_)
    for row, path in enumerate(paths):
        try:
            gray[row] = examine(image_bytes(path), path, max_pixels=MAX_PIXELS, min_side=1).gray32
            read[row] = True
        except (ImageError, OSError):
            continue
    pairs = near_duplicates(phash(gray), lambda rows: gray[rows], wanted=lambda i, j: read[i] & read[j])
    return groups(len(paths), *pairs, np.zeros(len(paths), np.int64))


def _rows(which: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(which).tolist())
