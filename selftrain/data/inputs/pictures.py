"""Pictures: a user's arrays of images as uint8, 0-255, channels last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.images import Array
from selftrain.data.inputs.values import Scale
from selftrain.errors import SourceError

UInt8s = npt.NDArray[np.uint8]
_KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}


def to_pictures(images: Array, scale: Scale, *, channels: tuple[int, ...], role: str) -> UInt8s:
    """`images` (n, h, w), (n, h, w, c) or (n, c, h, w) as uint8 0-255 (n, h, w, c).

    `scale` is that of all the user's images, and c is one of `channels`. Errors call the images `role`. Raises
    SourceError for values below 0, and for another number of channels.

    >>> to_pictures(np.ones((2, 3, 8, 8), np.float32), Scale.TO_1, channels=(1, 3), role="images").shape
    (2, 8, 8, 3)
    """
    if scale is Scale.SIGNED:
        raise SourceError(f"{role}: values below 0; give pixels as they were before normalisation, 0-255 or 0-1")
    pictures = images if images.dtype == np.uint8 else _rounded(images, 255 if scale is Scale.TO_1 else 1)
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.shape[-1] not in channels and pictures.shape[1] in channels:
        pictures = np.moveaxis(pictures, 1, -1)
    if pictures.shape[-1] not in channels:
        *first, last = (_KINDS[count] for count in channels)
        raise SourceError(f"{role}: images of shape {images.shape[1:]}; give {', '.join(first)} or {last} images")
    return pictures


def _rounded(images: Array, factor: int) -> UInt8s:
    rounded: UInt8s = np.clip(np.rint(images.astype(np.float32) * factor), 0, 255).astype(np.uint8)
    return rounded
