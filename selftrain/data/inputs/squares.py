"""Gathered images: whatever a user gives, as the uint8 squares that our models read, in a file of the workspace."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.images import Array, Ids, Unreadable
from selftrain.data.inputs.labels import LabelForm, class_indices, joined_labels, label_form, sorted_names, text
from selftrain.data.inputs.opening import open_images
from selftrain.data.inputs.pictures import to_pictures
from selftrain.data.inputs.values import PixelValues, Scale, join_values
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import SourceError

if TYPE_CHECKING:
    from selftrain.data.store.pixels import Pixels

Images = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SquareImages:
    """Images (n) of one size with their ids (n,), what could not be read, and where there are any the labels.

    `labels` (n,) are indices into `class_names`; there are none for unlabelled images. Given
    Pixels have no ids.
    """

    pixels: Pixels
    ids: Ids
    unreadable: tuple[Unreadable, ...] = ()
    labels: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def rows(self) -> Int64s:
        """All rows of the pixels."""
        return np.arange(len(self))


@dataclass(frozen=True, eq=False)
class JoinedImages:
    """Pixels of one size, the rows of each part after those of the part before."""

    parts: tuple[Pixels, ...]

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.parts[0].size

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def gather(self, rows: Int64s) -> Images:
        """uint8 (k, size, size, 3) of `rows` (k,), in that order."""
        starts = np.cumsum([0, *(len(part) for part in self.parts)])
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for part, start, end in zip(self.parts, starts[:-1], starts[1:], strict=True):
            at = np.flatnonzero((rows >= start) & (rows < end))
            if at.size:
                images[at] = part.gather(rows[at] - start)
        return images


def gather(
    given: object,
    *,
    role: str,
    labeled: bool,
    image_size: int,
    cache: Path,
    class_names: Sequence[str] | None = None,
) -> SquareImages:
    """Read `given` (what `open_images` takes) once, into a nameless file in the folder `cache`.

    Files are decoded as in training; arrays (n, h, w[, c]) or (n, c, h, w), grey or RGB, 0-255 or 0-1, are resized and
    cropped as files are. `class_names` are the labels' in their order; None: the sorted names, or the indices.
    Raises SourceError naming `role` for what is no image or no label, for floats in another range, and where there is
    no image at all.
    """
    opened = open_images(given, role=role, labeled=labeled, image_rank=None, image_size=image_size)
    cache.mkdir(parents=True, exist_ok=True)
    seen: PixelValues | None = None
    ids, labels = [], []
    unreadable: list[Unreadable] = []
    with tempfile.TemporaryFile(dir=cache) as file:
        for chunk in opened.chunks():
            unreadable += chunk.unreadable
            if not len(chunk):
                continue
            seen = join_values(seen, chunk.images, role=role)
            file.write(as_squares(chunk.images, image_size, scale=seen.scale, role=role).tobytes())
            ids.append(chunk.ids)
            labels += [] if chunk.labels is None else [chunk.labels]
        if not ids:
            bad = f" ({len(unreadable)} files cannot be read)" if unreadable else ""
            raise SourceError(f"{role} holds no image{bad}")
        if seen is not None:
            seen.refuse_range(role)
        file.flush()
        every = np.concatenate(ids)
        pixels = np.memmap(file, np.uint8, "r", shape=(len(every), image_size, image_size, 3))
    if not labeled:
        return SquareImages(ArrayPixels(pixels), every, tuple(unreadable))
    found, names = _labels(labels, class_names, role=role)
    return SquareImages(ArrayPixels(pixels), every, tuple(unreadable), found, names)


def gathered_pixels(images: object, *, role: str, image_size: int, cache: Path) -> SquareImages:
    """`gather` for unlabelled images, or for Pixels, which are taken as they are and have no ids.

    Raises SourceError for Pixels of another size.
    """
    if not callable(getattr(images, "gather", None)):
        return gather(images, role=role, labeled=False, image_size=image_size, cache=cache)
    pixels = cast("Pixels", images)
    if pixels.size != image_size:
        raise SourceError(f"{role} are Pixels of {pixels.size} px, image_size is {image_size}; give one of the two")
    return SquareImages(pixels, np.empty(0, "S64"))


def as_squares(images: Array, size: int, *, scale: Scale, role: str) -> Images:
    """`images` (n, ...) as uint8 RGB (n, size, size, 3): the shorter side resized (bicubic), the centre cropped.

    Raises SourceError for values below 0, and for what is neither grey nor RGB.
    """
    pictures = to_pictures(images, scale, channels=(1, 3), role=role)
    rgb = np.repeat(pictures, 3, axis=-1) if pictures.shape[-1] == 1 else pictures
    if rgb.shape[1:3] == (size, size):
        return np.ascontiguousarray(rgb)
    return np.stack([_resized(image, size) for image in rgb])


def _resized(image: Images, size: int) -> Images:
    from PIL import Image

    picture = Image.fromarray(image)
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))


def _labels(parts: list[Array], class_names: Sequence[str] | None, *, role: str) -> tuple[Int64s, tuple[str, ...]]:
    labels = joined_labels(parts, role=role)
    names = tuple(class_names) if class_names is not None else _names(labels, role)
    return class_indices(labels, role=role, class_names=names), names


def _names(labels: Array, role: str) -> tuple[str, ...]:
    match label_form(labels, role=role):
        case LabelForm.NAME:
            return sorted_names(text(labels))
        case LabelForm.ONE_HOT:
            return tuple(str(index) for index in range(labels.shape[1]))
        case LabelForm.INDEX:
            return tuple(str(index) for index in range(int(labels.max()) + 1))
