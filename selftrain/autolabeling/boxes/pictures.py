"""Pictures: a user's images at their own sizes, from a folder, a list of files, arrays or any iterable of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.folders.found_objects import read_image
from selftrain.autolabeling.folders.sources import ListedSources, common_folder, list_sources, name_below
from selftrain.data.images.decode import quiet
from selftrain.errors import SourceError
from selftrain.learn.models.predict_files import Unread
from selftrain.naming import name_rows

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image: its name in the results, and its pixels (h, w, 3) or why there are none."""

    name: str
    pixels: Pixels | Unread


@dataclass(frozen=True)
class Pictures:
    """The images of a call: their `count` if it is known, and the folder `root` that their names start from."""

    listed: ListedSources | None
    arrays: Iterable[object]
    count: int | None
    root: str | None

    def batches(self, size: int) -> Iterator[list[Picture]]:
        """The images in their order, `size` at a time. Raises SourceError for an array that is not an image."""
        if self.listed is None:
            rows = enumerate(self.arrays)
            while taken := list(islice(rows, size)):
                yield [Picture(f"{row:06d}.png", as_image(each, f"unlabeled, row {row}")) for row, each in taken]
            return
        images = self.listed.images
        with ThreadPoolExecutor(self.listed.threads) as pool, quiet():
            for start in range(0, len(images), size):
                some = images[start : start + size]
                read = pool.map(read_image, some)
                yield [Picture(name_below(one.path, self.root), each) for one, each in zip(some, read, strict=True)]


def open_pictures(given: object) -> Pictures:
    """The images `given`: a folder, a path, a list of paths, an array (n, h, w, 3), or an iterable of images.

    Raises SourceError for a path that does not exist, and for what holds no image.
    """
    paths = _paths(given)
    if paths is not None:
        listed = list_sources(paths)
        gone = [each.path for each in listed.images if each.error is not None]
        if gone:
            raise SourceError(f"unlabeled: {name_rows(gone)} does not exist; give files or folders of images")
        return Pictures(listed, (), len(listed.images), common_folder([each.path for each in listed.images]))
    if not isinstance(given, Iterable):
        raise SourceError(f"unlabeled is {type(given).__name__}; give a folder, paths, or images (h, w, 3)")
    _refuse_one_image(given)
    count = _length(given)
    if count == 0:
        raise SourceError("unlabeled holds no image; give a folder, paths, or images (h, w, 3)")
    return Pictures(None, given, count, None)


def _refuse_one_image(given: object) -> None:
    """Raise SourceError for an array or tensor that is one image, whose rows would be read as grey images."""
    try:
        shape = tuple(getattr(given, "shape", ()))
    except TypeError:  # a shape of unknown length
        return
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 2, 3, 4)):
        raise SourceError(
            f"unlabeled has the shape {shape}, which is one image; give [image], or (n, height, width, 3)"
        )


def _length(given: object) -> int | None:
    """How many images there are, or None where that is not known before they are read."""
    try:
        return len(given) if isinstance(given, Sized) else None
    except TypeError:  # TensorFlow's and torch's data sets have a length only where they know it
        return None


def as_image(value: Any, name: str) -> Pixels:
    """An array (h, w, 3), (h, w, 1) or (h, w) of uint8 as RGB. Raises SourceError for anything else."""
    array = np.asarray(value)
    if array.dtype != np.uint8:
        raise SourceError(f"{name}: the image is {array.dtype}; give uint8, 0-255, as the detector is given it")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise SourceError(f"{name}: the image has the shape {array.shape}; give (height, width, 3)")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array


def _paths(given: object) -> list[str] | None:
    """The paths that are `given`, or None for anything else."""
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    if isinstance(given, list | tuple) and given and all(isinstance(each, str | os.PathLike) for each in given):
        return [os.fspath(each) for each in given]
    return None
