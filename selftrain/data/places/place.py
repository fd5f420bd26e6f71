"""A place: something other than a plain folder that holds images, with or without labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Protocol

INSIDE: Final = "::"
"""Between the path of a file and what is meant inside it: `photos.zip::train`, `photos.zip::train/cat/1.jpg`."""
LARGEST: Final = 256_000_000  # bytes of one image; an archive can announce any number

_SPLITS = {
    **dict.fromkeys(("train", "training"), None),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsupervised", "unsup"), "unlabeled"),
}
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(_SPLITS)})(?![a-z])", re.IGNORECASE)


@dataclass
class Found:
    """The images of a place, as columns of equal length; `ignored` counts what holds no image.

    `splits` holds None where the place leaves the split open, `sizes` are in bytes (0: unknown). `words` tells of which
    images the label is a word that somebody wrote for them alone, so that it may be a mark of none, and not the name of
    a folder or of a class that the place lists. `notes` are decisions that the owner should know of.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    words: list[bool] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes_ns: list[int] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        path: str,
        *,
        label: str | None,
        size: int,
        mtime_ns: int,
        split: str | None = None,
        group: str | None = None,
        word: bool = False,
    ) -> None:
        """Add one image."""
        self.paths.append(path)
        self.labels.append(label)
        self.words.append(word)
        self.splits.append(split)
        self.groups.append(group)
        self.sizes.append(size)
        self.mtimes_ns.append(mtime_ns)


class Place(Protocol):
    """What a source asks of a place."""

    def find(self, *, labelled: bool) -> Found:
        """All images now; their labels only if `labelled`. Raises SourceError."""

    def holds(self, path: str) -> bool:
        """Whether `path` is one of the paths that `find` gives."""

    def read(self, path: str) -> bytes:
        """The encoded image at `path`. Raises OSError."""


def split_named(name: str) -> str | None:
    """The split that the name of a file announces; None for training, and where it announces none.

    >>> split_named("test-00000-of-00001.parquet"), split_named("mnist-train.tfrecord-00000-of-00001")
    ('test', None)
    """
    found = _SPLIT.search(name)
    return _SPLITS[found.group(1).lower()] if found else None


def splits_noted(found: Found, files: int) -> list[str]:
    """A note on the splits that the names of `files` files gave to the images in `found`; none where they gave none."""
    named = {split: found.splits.count(split) for split in ("validation", "test", "unlabeled")}
    said = ", ".join(f"{count} of split {split}" for split, count in named.items() if count)
    return [f"by the names of {files} files: {said}"] if said else []
