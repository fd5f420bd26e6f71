"""Image files of a user: in class folders, in any folder or in a list of paths, decoded in chunks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from selftrain.config import FolderSource, Ingest
from selftrain.data.images.decode import decode, probe
from selftrain.data.images.openers import image_bytes
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.inputs.images import ImageChunk, ImageStream, Unreadable, rows_of_size, to_labels
from selftrain.data.sources.folders import FolderImages
from selftrain.data.sources.listing import find_images
from selftrain.data.workers import cores
from selftrain.errors import ImageError, SourceError

Pixels = npt.NDArray[np.uint8]
LIMITS = Ingest()
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's L

Read = tuple[str, bytes, int, Pixels] | Unreadable
"""(path, sha256, size in bytes, pixels), or why the file cannot be read."""


def class_folder_stream(
    folder: str | os.PathLike[str], *, role: str, size: int, channels: int, bits: int | None = None
) -> ImageStream:
    """A folder with one sub-folder of images per class, named after the class. Raises SourceError.

    `bits` is how many of 16 bits grey pictures fill.
    """
    source = FolderImages(FolderSource(labeled=os.fspath(folder)))
    try:
        listing = source.scan()
    except SourceError as error:
        raise SourceError(f"{role}: {error.message}") from error
    labels = np.array(listing.table["label"].to_pylist())
    paths = listing.table["path"].to_pylist()
    return ImageStream(_chunks(paths, labels, size=size, channels=channels, bits=bits), len(paths))


def folder_stream(
    folder: str | os.PathLike[str], *, role: str, size: int, channels: int, bits: int | None = None
) -> ImageStream:
    """All images below a folder, without labels, in the order of their paths. Raises SourceError."""
    if not os.path.isdir(folder):
        raise SourceError(
            f"{role}: {os.fspath(folder)!r} is not a folder (seen from {os.getcwd()!r}); correct the path"
        )
    paths = sorted(find_images(os.fspath(folder)).paths)
    return ImageStream(_chunks(paths, None, size=size, channels=channels, bits=bits), len(paths))


def path_stream(
    paths: Sequence[object],
    labels: object | None,
    *,
    role: str,
    size: int,
    channels: int,
    bits: int | None = None,
) -> ImageStream:
    """Image files named one by one, with `labels` (n,), (n, classes) or None. Raises SourceError."""
    label_array = None if labels is None else to_labels(labels)
    if label_array is not None and len(label_array) != len(paths):
        raise SourceError(f"{role}: {len(paths)} paths and {len(label_array)} labels; give one label per image")
    named = [str(path) for path in paths]
    return ImageStream(_chunks(named, label_array, size=size, channels=channels, bits=bits), len(named))


def read_image(path: str, *, size: int, channels: int, bits: int | None = None) -> Read:
    """(path, sha256 of the file, its size in bytes, pixels uint8 (size, size, channels)), decoded as in training.

    `bits` is how many of 16 bits a grey picture fills.
    """
    limit = int(LIMITS.max_megapixels * 1e6)
    try:
        data = image_bytes(path)
        probe(data, path, max_pixels=limit, min_side=LIMITS.min_side)
        pixels = decode(data, size, max_pixels=limit, bits=bits)
    except ImageError as error:
        return Unreadable(path, str(error.reason), error.message.removeprefix(f"{path}: ").removeprefix("image: "))
    except (OSError, ValueError) as error:
        return Unreadable(path, str(QuarantineReason.UNREADABLE), str(error))
    return path, hashlib.sha256(data).hexdigest().encode(), len(data), in_channels(pixels, channels)


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """RGB pixels (h, w, 3) unchanged for 3 channels, else as one channel of grey (h, w, 1)."""
    if channels == 3:
        return pixels
    grey: Pixels = np.rint(pixels @ np.array(GREY)).astype(np.uint8)
    return grey[..., None]


def _chunks(
    paths: Sequence[str], labels: npt.NDArray[np.generic] | None, *, size: int, channels: int, bits: int | None
) -> Callable[[], Iterator[ImageChunk]]:
    rows = rows_of_size(size * size * channels)

    def chunks() -> Iterator[ImageChunk]:
        with ThreadPoolExecutor(cores()) as threads:

            def begin(start: int) -> list[Future[Read]]:
                part = paths[start : start + rows]
                return [threads.submit(read_image, path, size=size, channels=channels, bits=bits) for path in part]

            upcoming = begin(0) if paths else []
            for start in range(0, len(paths), rows):
                now, upcoming = upcoming, begin(start + rows)
                yield _gathered(
                    [one.result() for one in now],
                    None if labels is None else labels[start : start + rows],
                    shape=(size, size, channels),
                )

    return chunks


def _gathered(read: list[Read], labels: npt.NDArray[np.generic] | None, *, shape: tuple[int, int, int]) -> ImageChunk:
    usable = [row for row, one in enumerate(read) if not isinstance(one, Unreadable)]
    images = np.empty((len(usable), *shape), np.uint8)
    paths, ids, sizes = [], [], []
    for at, row in enumerate(usable):
        one = read[row]
        if not isinstance(one, Unreadable):
            path, image_id, size, images[at] = one
            paths.append(os.path.abspath(path))
            ids.append(image_id)
            sizes.append(size)
    return ImageChunk(
        images=images,
        ids=np.array(ids, dtype="S64"),
        labels=None if labels is None else labels[usable],
        paths=tuple(paths),
        sizes=tuple(sizes),
        unreadable=tuple(one for one in read if isinstance(one, Unreadable)),
    )
