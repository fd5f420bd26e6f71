"""Square images: a user's images of any kind as the uint8 squares that our models read, in a file on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.images import Array, Ids, ImageChunk, ImageStream, Unreadable
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
    """Images (n) of one size with their ids (n,), the files that could not be read, and the labels if there are any.

    `labels` (n,) are indices into `class_names`, empty for unlabelled images. A user's own Pixels have no ids.
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
    """Pixels of one size in several parts, whose rows follow one another."""

    parts: tuple[Pixels, ...]

    @property
    def size(self) -> int:
        """Pixels per side."""
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
    images: object,
    *,
    role: str,
    labeled: bool,
    image_size: int,
    cache: Path,
    class_names: Sequence[str] | None = None,
    bits: int | None = None,
) -> SquareImages:
    """Read `images` (what `open_images` takes) once, into an unnamed file in the folder `cache`.

    Files are decoded as in training. Arrays (n, h, w[, c]) or (n, c, h, w), grey or RGB, 0-255 or 0-1, are resized and
    cropped as files are. `bits` is how many of 16 bits grey files fill. `class_names` are the classes in order; None:
    the sorted names, or the indices. Raises SourceError, which names `role`, for what is not an image or a label, for
    floats in another range, and if there is not a single image.
    """
    stream = open_images(images, role=role, labeled=labeled, image_rank=None, image_size=image_size, bits=bits)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache) as file:
        chunks = _write_squares(stream, file, image_size, role=role)
        ids = np.concatenate([chunk.ids for chunk in chunks])
        pixels = np.memmap(file, np.uint8, "r", shape=(len(ids), image_size, image_size, 3))
    unreadable = tuple(one for chunk in chunks for one in chunk.unreadable)
    if not labeled:
        return SquareImages(ArrayPixels(pixels), ids, unreadable)
    labels = [chunk.labels for chunk in chunks if len(chunk.ids) and chunk.labels is not None]
    indices, names = _labels(labels, class_names, role=role)
    return SquareImages(ArrayPixels(pixels), ids, unreadable, indices, names)


def _write_squares(stream: ImageStream, file: IO[bytes], size: int, *, role: str) -> list[ImageChunk]:
    """Write all images of `stream` to `file` as squares; returns the chunks without their pixels."""
    values: PixelValues | None = None
    chunks: list[ImageChunk] = []
    for chunk in stream.chunks():
        if len(chunk):
            values = join_values(values, chunk.images, role=role)
            file.write(as_squares(chunk.images, size, scale=values.scale, role=role).tobytes())
        chunks.append(replace(chunk, images=np.empty(0, np.uint8)))  # a view would keep them in memory
    if values is None:
        unreadable = sum(len(chunk.unreadable) for chunk in chunks)
        raise SourceError(f"{role} holds no image{f' ({unreadable} files cannot be read)' if unreadable else ''}")
    values.refuse_range(role)
    file.flush()
    return chunks


def gathered_pixels(
    images: object, *, role: str, image_size: int, cache: Path, bits: int | None = None
) -> SquareImages:
    """`gather` for unlabelled images; Pixels are taken as they are and have no ids.

    Raises SourceError for Pixels of another size.
    """
    if not callable(getattr(images, "gather", None)):
        return gather(images, role=role, labeled=False, image_size=image_size, cache=cache, bits=bits)
    pixels = cast("Pixels", images)
    if pixels.size != image_size:
        raise SourceError(f"{role} are Pixels of {pixels.size} px, but image_size is {image_size}; make them equal")
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
