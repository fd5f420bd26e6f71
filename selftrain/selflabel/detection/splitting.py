"""Splits of images with boxes: by a hash of each image's group, so that more images later move none of the earlier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selftrain.data.hash_position import hash_position
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.errors import SourceError

FEWEST = 2
"""Images that each split needs."""


@dataclass(frozen=True)
class Rows:
    """The rows of the images of each split."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_rows(labelled: LabelledImages, *, validation: float, test: float, seed: int) -> Rows:
    """The rows of `labelled` for training, validation and test: what the source says, else by shares.

    Images of one group stay together. Raises SourceError if a split has under FEWEST images.
    """
    names, groups, given = (labelled.images[name].to_pylist() for name in ("name", "group", "split"))
    keys = sorted({group or name for name, group in zip(names, groups, strict=True)}, key=_position(seed))
    ends = round(len(keys) * test), round(len(keys) * (test + validation))
    place = {key: "test" if at < ends[0] else "validation" if at < ends[1] else "train" for at, key in enumerate(keys)}
    splits = [said or place[group or name] for name, group, said in zip(names, groups, given, strict=True)]
    rows = Rows(*(_of(splits, name) for name in ("train", "validation", "test")))
    for name in ("train", "validation", "test"):
        if len(getattr(rows, name)) < FEWEST:
            raise SourceError(
                f"{len(getattr(rows, name))} of {len(names)} labelled images are for {name}, which needs {FEWEST}; "
                "label more images, or give larger shares"
            )
    return rows


def _position(seed: int) -> Callable[[str], float]:
    return lambda key: hash_position(key.encode(), seed=seed)


def _of(splits: Sequence[str], name: str) -> tuple[int, ...]:
    return tuple(row for row, split in enumerate(splits) if split == name)
