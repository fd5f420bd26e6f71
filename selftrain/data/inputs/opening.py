"""Opening a user's images: which kind they are, and how that kind is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from selftrain.data.inputs.endless import first_images, once_through, refuse_endless
from selftrain.data.inputs.files import class_folder_stream, folder_stream, path_stream
from selftrain.data.inputs.images import Ids, ImageStream, array_stream, is_array, is_path, name_kind
from selftrain.data.inputs.streams import batch_stream
from selftrain.errors import SourceError


def open_images(
    given: object,
    *,
    role: str,
    labeled: bool,
    image_rank: int | None,
    image_size: int | None,
    channels: int = 3,
    bits: int | None = None,
    limit: int | None = None,
) -> ImageStream:
    """Open the images `given`, which errors call `role`, as a stream; only what is in memory is read now.

    - labelled images: a folder of class folders, a tuple (images, labels), or a stream of pairs
    - unlabelled images: a folder, an array, a list of arrays or paths, or a stream
    - a stream: tf.data, a DataLoader, a map-style dataset or any iterable

    `image_rank` is the number of dimensions of one image, if it is known. Files are decoded to `image_size` pixels per
    side and `channels`; `bits` is how many of 16 bits their grey ones fill. At most `limit` images are read. Without it
    a stream that never ends is refused: at once where it says so, otherwise when it gives the same images again. Raises
    SourceError.
    """
    if limit is None:
        refuse_endless(given, role=role)
    opened = _opened(
        given,
        role=role,
        labeled=labeled,
        image_rank=image_rank,
        image_size=image_size,
        channels=channels,
        bits=bits,
        limit=limit,
    )
    return once_through(opened, role=role) if limit is None else first_images(opened, limit)


def _opened(
    given: object,
    *,
    role: str,
    labeled: bool,
    image_rank: int | None,
    image_size: int | None,
    channels: int,
    bits: int | None,
    limit: int | None,
) -> ImageStream:
    if is_path(given):
        size = _size(image_size, role)
        read = class_folder_stream if labeled else folder_stream
        return read(os.fspath(given), role=role, size=size, channels=channels, bits=bits)
    images, labels = _split(given, role=role, labeled=labeled)
    paths = _paths(images)
    if paths:
        size = _size(image_size, role)
        return path_stream(paths, labels, role=role, size=size, channels=channels, bits=bits)
    if is_path(images):
        raise SourceError(f"{role}: a folder takes no labels beside it; its class folders name the labels")
    if labels is not None or (not labeled and (is_array(images) or _is_list_of_images(images))):
        return array_stream(images, labels, role=role)
    return batch_stream(images, role=role, labeled=labeled, image_rank=image_rank, limit=limit)


def _split(value: object, *, role: str, labeled: bool) -> tuple[object, object | None]:
    """(images, labels) of a tuple of two; of anything else, (value, None)."""
    if isinstance(value, Mapping):
        ask = "give a tuple (images, labels)" if labeled else "give the images alone"
        raise SourceError(f"{role} is a {type(value).__name__} of {', '.join(map(str, value))}; {ask}")
    if labeled:
        if isinstance(value, list) and len(value) == 2 and all(is_array(each) for each in value):
            raise SourceError(f"{role} is a list of two arrays; give a tuple (images, labels)")
        if isinstance(value, tuple) and len(value) == 2 and all(_is_many(each) for each in value):
            return value
        if is_array(value):
            raise SourceError(f"{role} is {name_kind(value)} without labels; give a tuple (images, labels)")
        return value, None
    if isinstance(value, tuple) and len(value) == 2 and all(is_array(each) for each in value):
        raise SourceError(f"{role} is a tuple of two arrays; give the images alone")
    return value, None


def _paths(images: object) -> Sequence[str | os.PathLike[str]]:
    """The files that a list, tuple or array names; empty for anything else."""
    if is_array(images) and getattr(getattr(images, "dtype", None), "kind", "") in ("U", "O"):
        images = np.asarray(images).tolist()
    return images if isinstance(images, list | tuple) and all(is_path(each) for each in images) else ()


def _is_many(value: object) -> bool:
    return is_array(value) or isinstance(value, list | tuple)


def _is_list_of_images(value: object) -> bool:
    """A list of arrays, PIL images or nested numbers; a list of tuples is a stream of pairs."""
    return isinstance(value, list | tuple) and not (len(value) > 0 and isinstance(value[0], tuple | dict))


def _size(image_size: int | None, role: str) -> int:
    if image_size is None:
        raise SourceError(f"{role}: the model does not say which size it reads; give image_size= in pixels per side")
    return image_size


def ids_of(images: object) -> Ids:
    """The ids (n,) of an array of images, a list of images, or a list of files. Raises SourceError."""
    paths = _paths(images)
    if paths:
        return np.array([_file_id(path) for path in paths], dtype="S64")
    if not _is_many(images):
        kind = f"the path {os.fspath(images)!r}" if is_path(images) else name_kind(images)
        raise SourceError(f"images is {kind}; give an array of images, or a list of images or image files")
    opened = array_stream(images, None, role="images")
    return np.concatenate([np.empty(0, "S64"), *(chunk.ids for chunk in opened.chunks())])


def _file_id(path: str | os.PathLike[str]) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise SourceError(f"images: {os.fspath(path)!r} cannot be read ({error.strerror}); correct the path") from error
