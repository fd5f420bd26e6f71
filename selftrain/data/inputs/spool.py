"""Spooled images: a user's arrays and streams as a source, which keeps them as PNGs in one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from selftrain.data.images.encode import encode_png
from selftrain.data.inputs.images import Array, ImageStream
from selftrain.data.inputs.labels import (
    LabelForm,
    class_indices,
    joined_labels,
    label_form,
    number_indices,
    sorted_names,
    text,
)
from selftrain.data.inputs.pictures import to_pictures
from selftrain.data.inputs.values import PixelValues, join_values
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing
from selftrain.data.sources.rows import checked_listing, training_classes
from selftrain.data.sources.survey import Survey

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class _Place:
    start: int
    length: int


@dataclass
class SpooledImages:
    """Images of any kind as a source: a listing, and one file with the bytes of all images.

    An image's path is its role and the digest of its pixels, so the same images give the same listing.
    """

    file: Path
    named: tuple[str, ...] | None = None  # the classes, in the order of the model's outputs
    on_disk: bool = False
    _places: dict[str, _Place] = field(default_factory=dict)
    _labels: list[str | None] = field(default_factory=list)
    _splits: list[str | None] = field(default_factory=list)
    _sides: list[tuple[int, int]] = field(default_factory=list)
    _grey: bool = True
    _pixels: PixelValues | None = None

    def add(self, images: ImageStream, *, role: str, split: str | None) -> int:
        """Read all of `images`, which errors call `role`; labels are names, or indices into `named`.

        Returns the number of images. Raises SourceError for images that are not pictures or differ in kind from those
        before. Raises it also for what is not a label, and names the rows.
        """
        before = len(self._places)
        labels: list[Array] = []
        with self.file.open("ab") as out:
            for chunk in images.chunks():
                if not len(chunk):
                    continue
                self._pixels = join_values(self._pixels, chunk.images, role=role)
                labels += [] if chunk.labels is None else [chunk.labels]
                pictures = to_pictures(chunk.images, self._pixels.scale, channels=_CHANNELS, role=role)
                for picture, image_id in zip(pictures, chunk.ids.tolist(), strict=True):
                    grey = picture.shape[-1] == 1
                    data = encode_png(picture[..., 0] if grey else picture)
                    self._places[self._path(role, image_id.decode())] = _Place(out.tell(), len(data))
                    out.write(data)
                    self._splits.append(split)
                    self._sides.append((picture.shape[0], picture.shape[1]))
                    self._grey &= grey
        added = len(self._places) - before
        none: list[str | None] = [None] * added
        self._labels += label_names(joined_labels(labels, role=role), self.named, role) if labels else none
        return added

    def refuse_range(self) -> None:
        """Raise SourceError if the values of all images fit neither 0-1 nor 0-255."""
        if self._pixels is not None:
            self._pixels.refuse_range("images")

    def warnings(self) -> tuple[str, ...]:
        """Warnings about the range of the pixels."""
        return () if self._pixels is None else self._pixels.warnings()

    def scan(self) -> Listing:
        zeros = np.zeros(len(self._places), np.int64)
        columns = [list(self._places), self._labels, self._splits, zeros, zeros]
        return checked_listing(pa.table(columns, schema=LISTING_SCHEMA))

    def read(self, path: str) -> bytes:
        place = self._places[path]
        with self.file.open("rb") as file:
            file.seek(place.start)
            return file.read(place.length)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """`named` if it is given; otherwise the labels, sorted (by value if all are numbers)."""
        return self.named or sorted_names(training_classes(listing.table))

    def survey(self) -> Survey:
        """The Survey of the images, as `selftrain init` makes one of a folder."""
        rows = list(zip(self._labels, self._splits, strict=True))
        training = [name for name, split in rows if split is None]
        sides = np.array(self._sides).reshape(-1, 2)

        def count(split: str) -> int:
            return sum(other == split for _, other in rows)

        return Survey(
            labeled="labeled",
            unlabeled="unlabeled",
            classes={str(name): training.count(name) for name in sorted(set(map(str, training)))},
            unlabeled_images=count("unlabeled"),
            validation_images=count("validation") or None,
            test_images=count("test") or None,
            ignored_files=0,
            formats={"PNG": len(rows)},
            sampled=len(rows),
            unreadable=0,
            shortest_side=int(sides.min()),
            median_side=int(np.median(sides.min(axis=1))),
            longest_side=int(sides.max()),
            grey=self._grey,
        )

    def _path(self, role: str, image_id: str) -> str:
        """A path that no other image has, not even a copy."""
        path, copies = f"{role}/{image_id}.png", 1
        while path in self._places:
            copies += 1
            path = f"{role}/{image_id}-{copies}.png"
        return path


@contextmanager
def spooled(beside: Path, class_names: tuple[str, ...] | None) -> Iterator[SpooledImages]:
    """An empty source, whose file lies in a temporary folder in `beside` while the block runs."""
    beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="given-", dir=beside) as folder:
        yield SpooledImages(Path(folder) / "images.bin", class_names)


def label_names(labels: Array, class_names: tuple[str, ...] | None, role: str) -> list[str]:
    """`labels` (names, indices or one-hot rows) as names; without `class_names`, indices as text.

    Raises SourceError for what is not a label, and for what is not in `class_names`.
    """
    if class_names is not None:
        indices = class_indices(labels, role=role, class_names=class_names, whose="class_names")
        return [class_names[index] for index in indices.tolist()]
    if label_form(labels, role=role) is LabelForm.NAME:
        return text(labels)
    return [str(index) for index in number_indices(labels, role=role, classes=None).tolist()]
