"""Prediction: a network's answers to many images, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from selftrain.data.store.pixels import Pixels

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A network as a function: uint8 images (n, side, side, 3), for any n, to logits (n, classes)."""

_SMALLEST_BATCH: Final = 32


def predict_logits(
    model: keras.Model,
    pixels: Pixels,
    rows: NDArray[np.int64],
    *,
    batch_size: int = 256,
    flips: bool = False,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Logits (n, classes) of `rows` (n,) of `pixels`; `flips` averages them with those of the mirrored images.

    All batches have one shape, so that the model is compiled once. The last one is padded with repeated images.
    """
    n = len(rows)
    if n == 0:
        return np.empty((0, model.output_shape[-1]), np.float32)
    size = _even_size(n, batch_size)
    batches = read_ahead(pixels, rows, size)
    return _logits(model.predict_on_batch, batches, n, flips=flips, progress=progress)[:n]


def logits_of(
    network: Logits,
    pixels: Pixels,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    flips: bool = False,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Logits (n, classes) of one or more `rows` (n,) of `pixels`, in batches; the last one may be smaller."""
    batches = read_ahead(pixels, rows, batch_size, padded=False)
    return _logits(network, batches, len(rows), flips=flips, progress=progress)


def _logits(
    network: Logits, batches: Iterator[tuple[int, NDArray[np.uint8]]], n: int, *, flips: bool, progress: Progress
) -> NDArray[np.float32]:
    parts = []
    for done, images in batches:
        logits = network(images)
        if flips:
            logits = np.asarray((logits + network(images[:, :, ::-1])) / 2, np.float32)
        parts.append(logits)
        progress(done, n)
    return np.concatenate(parts).astype(np.float32, copy=False)


def _even_size(n: int, batch_size: int) -> int:
    """The size of the fewest batches that `batch_size` allows, all equally full: two of 160 for 300 images."""
    batches = -(-n // batch_size)
    return min(batch_size, -(-n // (batches * _SMALLEST_BATCH)) * _SMALLEST_BATCH)


def read_ahead(
    pixels: Pixels, rows: NDArray[np.int64], size: int, *, padded: bool = True
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """How many images are done after each batch, and the batch. A thread gathers the next one in the meantime.

    The last batch is as large as the others if it is `padded`, with repeated images.
    """

    def gather(start: int) -> NDArray[np.uint8]:
        batch = rows[start : start + size]
        return pixels.gather(np.resize(batch, size) if padded else batch)

    starts = range(0, len(rows), size)
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(gather, 0)
        for start in starts:
            images = upcoming.result()
            if start + size < len(rows):
                upcoming = thread.submit(gather, start + size)
            yield min(start + size, len(rows)), images
