"""Samples of image files: what a model that a user brings is asked with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.folders.held_out_files import class_folders
from selftrain.data.images.decode import decode
from selftrain.data.images.openers import image_bytes
from selftrain.errors import ImageError
from selftrain.learn.adoption.adopt import Known, size_of

UInt8s = npt.NDArray[np.uint8]
_IMAGES, _LABELED = 64, 256  # the most that are read


def known_of(
    paths: Sequence[str],
    *,
    pixels: str | None,
    size: str | None = None,
    bits: int | None = None,
    labeled: Path | None = None,
    class_names: tuple[str, ...] = (),
) -> Known:
    """What the image files `paths`, and those in the class folders of `labeled`, let us ask a model.

    `bits` is how many of 16 bits their grey ones fill.

    Raises ConfigError for a `size` that is not height x width, such as "96x128".
    """
    return Known(
        pixels=pixels,
        size=size_of(size),
        bits=bits,
        images=partial(_images, tuple(paths), bits),
        labeled=None if labeled is None else partial(_labeled, labeled, class_names, bits),
    )


def _images(paths: Sequence[str], bits: int | None, side: int) -> UInt8s:
    return _read(_spread(paths, _IMAGES), side, bits)[0]


def _labeled(
    folder: Path, class_names: tuple[str, ...], bits: int | None, side: int
) -> tuple[UInt8s, npt.NDArray[np.int64]]:
    labels = class_folders(folder, class_names)
    paths = _spread(tuple(labels), _LABELED)
    images, read = _read(paths, side, bits)
    return images, np.array([labels[paths[row]] for row in read], np.int64)


def _spread(paths: Sequence[str], most: int) -> list[str]:
    """At most `most` of `paths`, at even distances."""
    if len(paths) <= most:
        return list(paths)
    return [paths[row] for row in np.linspace(0, len(paths) - 1, most).round().astype(int).tolist()]


def _read(paths: Sequence[str], side: int, bits: int | None) -> tuple[UInt8s, list[int]]:
    """The files that can be read, uint8 (n, side, side, 3), and their rows (n,) in `paths`."""
    images, rows = [], []
    for row, path in enumerate(paths):
        try:
            images.append(decode(image_bytes(path), side, bits=bits))
            rows.append(row)
        except (ImageError, OSError, ValueError):  # labelling says what is wrong with the file
            continue
    return np.stack(images) if images else np.empty((0, side, side, 3), np.uint8), rows
