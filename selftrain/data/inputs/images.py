"""A user's images (arrays, lists, tf.data, a DataLoader, files) as chunks of numpy arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.displayed import as_displayed
from selftrain.errors import SourceError
from selftrain.naming import name_rows, named_rows

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.bytes_]
Shape = tuple[int | None, ...]

CHUNK_BYTES = 32 << 20
MOST_ROWS = 8192
_KEPT = (np.dtype(np.uint8), np.dtype(np.float16), np.dtype(np.float32))
COLOURS = (1, 3, 4)  # channels: grey, RGB, RGBA
KINDS = "a folder, an array, a list, a tf.data.Dataset or a torch DataLoader"


@dataclass(frozen=True)
class Unreadable:
    """A file that is not a usable image; `reason` is its quarantine code."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class ImageChunk:
    """Consecutive images: `images` (n, ...) of dtype uint8, float16 or float32, `ids` (n,) sha256.

    `labels` (n,) or (n, classes) are as the user gave them, None for unlabelled images. Images that are files have
    `paths` (n,) and `sizes` (n,) in bytes, and their `ids` are of the files' bytes. `unreadable` are files left out.
    For images that are not files, `first` is the row of the chunk's first image in the whole input.
    """

    images: Array
    ids: Ids
    labels: Array | None = None
    paths: tuple[str, ...] | None = None
    sizes: tuple[int, ...] | None = None
    unreadable: tuple[Unreadable, ...] = ()
    first: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def named(self, rows: npt.NDArray[np.int64]) -> str:
        """The images in `rows` (k,) of this chunk as an error names them: files by path, others by row."""
        return named_rows(rows + self.first) if self.paths is None else name_rows([self.paths[row] for row in rows])


@dataclass(frozen=True)
class ImageStream:
    """Images that are read from beginning to end in chunks of at most CHUNK_BYTES; `count` if it is known."""

    chunks: Callable[[], Iterator[ImageChunk]]
    count: int | None = None


def array_stream(images: object, labels: object | None, *, role: str) -> ImageStream:
    """An array (n, ...), or a list of images of one shape, with `labels` (n,), (n, classes) or None."""
    stacked = _stack(images, role) if isinstance(images, list | tuple) else to_array(images)
    refuse_shape(stacked.shape[1:], role)
    label_array = None if labels is None else to_labels(labels)
    if label_array is not None and len(label_array) != len(stacked):
        raise SourceError(f"{role}: {len(stacked)} images and {len(label_array)} labels; give one label per image")
    rows = chunk_rows(stacked)

    def chunks() -> Iterator[ImageChunk]:
        for start in range(0, len(stacked), rows):
            part = slice(start, start + rows)
            yield image_chunk(stacked[part], None if label_array is None else label_array[part], role, first=start)

    return ImageStream(chunks, len(stacked))


def to_array(value: object) -> Array:
    """`value` as a numpy array: a tensor of any framework, a PIL image as it looks, numbers."""
    if callable(getattr(value, "getbands", None)):
        value = as_displayed(cast("Image.Image", value))
    for name in ("detach", "cpu", "numpy"):  # torch needs all three, TensorFlow the last
        convert = getattr(value, name, None)
        if callable(convert):
            value = convert()
    return np.asarray(value)


def to_labels(value: object) -> Array:
    """`value` as an array; in a list that mixes text and numbers (NaN is one), each value stays as it is."""
    array = to_array(value)
    if array.dtype.kind not in "US" or not isinstance(value, list | tuple):
        return array
    numbers = any(isinstance(each, int | float | np.number) for each in value)
    return np.asarray(value, dtype=object) if numbers else array


def as_pixels(images: Array, role: str, *, first: int = 0) -> Array:
    """`images` as uint8, float16 or float32, C-contiguous, not scaled; the first is row `first`.

    Raises SourceError for a type that cannot be pixels, integers outside 0-255, NaN and infinity.
    """
    if images.dtype.kind == "f":
        converted = images if images.dtype in _KEPT else images.astype(np.float32)
        bad = ~np.isfinite(converted).reshape(len(converted), -1).all(axis=1)
        if bad.any():
            rows = named_rows(np.flatnonzero(bad) + first)
            raise SourceError(f"{role}: {int(bad.sum())} images hold NaN or infinity ({rows}); repair them")
        return np.ascontiguousarray(converted)
    if images.dtype.kind in "iu":
        if images.dtype != np.uint8 and images.size and (images.min() < 0 or images.max() > 255):
            raise SourceError(
                f"{role}: images of type {images.dtype} reach from {images.min()} to {images.max()}; "
                "integers must be in 0-255"
            )
        return np.ascontiguousarray(images.astype(np.uint8, copy=False))
    raise SourceError(f"{role}: images of type {images.dtype}; allowed are integers in 0-255 and floats")


def image_ids(images: Array) -> Ids:
    """(n,) sha256 (hex) of each image's type, shape and pixels; equal images have equal ids everywhere."""
    head = f"{images.dtype.str}{images.shape[1:]}".encode()
    digests = [hashlib.sha256(head + image.tobytes()).hexdigest() for image in images]
    return np.array(digests, dtype="S64")


def chunk_rows(images: Array) -> int:
    """How many of `images` (n, ...) make a chunk."""
    return rows_of_size(int(np.prod(images.shape[1:], dtype=np.int64)) * images.dtype.itemsize)


def rows_of_size(image_bytes: int) -> int:
    """How many images of `image_bytes` each make a chunk."""
    return max(1, min(MOST_ROWS, CHUNK_BYTES // max(1, image_bytes)))


def name_kind(value: object) -> str:
    """The type and shape of `value`, as an error names them."""
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}"


def is_array(value: object) -> bool:
    """True for numpy arrays and for tensors of any framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not hasattr(value, "element_spec")


def image_chunk(images: Array, labels: Array | None, role: str, *, first: int) -> ImageChunk:
    """Check these images (n, ...), of which the first is row `first`, and make a chunk of them. Raises SourceError."""
    pixels = as_pixels(images, role, first=first)
    return ImageChunk(pixels, image_ids(pixels), labels, first=first)


def _stack(images: Sequence[object], role: str) -> Array:
    arrays = [to_array(image) for image in images]
    shapes = sorted({array.shape for array in arrays}, key=str)
    if len(shapes) > 1:
        raise SourceError(f"{role}: images of different shapes, {shapes[0]} and {shapes[1]}; resize them to one")
    return np.stack(arrays) if arrays else np.empty((0, 1, 1), np.uint8)


def refuse_shape(shape: tuple[int, ...], role: str) -> None:
    """Raise SourceError unless `shape` is the shape of one image."""
    if len(shape) not in (2, 3) or 0 in shape:
        raise SourceError(
            f"{role}: one image has the shape {shape}; allowed are (height, width), (height, width, channels) and "
            "(channels, height, width)"
        )


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """True for a value that can name a file or folder."""
    return isinstance(value, str | os.PathLike)
