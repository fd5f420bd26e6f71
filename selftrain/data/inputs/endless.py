"""Endless streams: those that say so are refused, those that repeat are noticed, and a limit ends any of them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selftrain.data.inputs.images import Array, ImageChunk, ImageStream
from selftrain.errors import SourceError

_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def refuse_endless(stream: object, *, role: str) -> None:
    """Raise SourceError for a tf.data.Dataset that says it repeats for ever, and a PyDataset without a length."""
    cardinality = getattr(stream, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == _INFINITE:
        raise SourceError(
            f"{role} repeats for ever; give it without .repeat(), or end it with .take(N){_limit_of(role)}"
        )
    if is_keras_sequence(stream) and batches_of(stream) is None:
        raise SourceError(
            f"{role} is a {type(stream).__name__} without a length, which never ends; give it one{_limit_of(role)}"
        )


def is_keras_sequence(stream: object) -> bool:
    """Whether `stream` is a PyDataset of Keras, which is read by index: its iterator may start again for ever."""
    keras = sys.modules.get("keras")  # a PyDataset exists only where Keras is already imported
    kind = getattr(getattr(keras, "utils", None), "PyDataset", None)
    return kind is not None and isinstance(stream, kind)


def batches_of(sequence: Any) -> int | None:
    """How many batches a PyDataset of Keras has; None where it never ends."""
    if hasattr(sequence, "__len__"):
        return len(sequence)
    batches = sequence.num_batches
    return None if batches is None else int(batches)


def batches(sequence: Any) -> Iterator[object]:
    """The batches of a PyDataset of Keras, by index, once through."""
    count = batches_of(sequence)
    return (sequence[row] for row in (itertools.count() if count is None else range(count)))


def first_images(stream: ImageStream, limit: int) -> ImageStream:
    """The first `limit` images of `stream`, or all where it has fewer."""

    def chunks() -> Iterator[ImageChunk]:
        left = limit
        for chunk in stream.chunks():
            yield chunk if len(chunk) <= left else _head(chunk, left)
            left -= len(chunk)
            if left <= 0:
                return

    return ImageStream(chunks, None if stream.count is None else min(stream.count, limit))


def first_rows(pairs: Iterator[tuple[Array, Array | None]], limit: int) -> Iterator[tuple[Array, Array | None]]:
    """The first `limit` rows of pairs (images, labels); nothing is read beyond them."""
    left = limit
    for images, labels in pairs:
        yield images[:left], None if labels is None else labels[:left]
        left -= len(images)
        if left <= 0:
            return


def once_through(stream: ImageStream, *, role: str) -> ImageStream:
    """`stream`, which ends with SourceError after two chunks of nothing but images that it gave before.

    A stream of known length is left as it is. One that ends may well end with copies.
    """
    if stream.count is not None:
        return stream

    def chunks() -> Iterator[ImageChunk]:
        given: set[int] = set()
        read = repeated = 0
        for chunk in stream.chunks():
            ids = {hash(image_id) for image_id in chunk.ids.tolist()}
            repeated = repeated + 1 if ids and ids <= given else 0
            if repeated > 1:
                raise SourceError(
                    f"{role} gives the same images again: {len(given)} different ones among the first {read}. If it "
                    f"repeats, give it without that{_limit_of(role)}"
                )
            given |= ids
            read += len(chunk)
            yield chunk

    return ImageStream(chunks, None)


def _limit_of(role: str) -> str:
    return ", or say limit=N" if role == "unlabeled" else ""


def _head(chunk: ImageChunk, rows: int) -> ImageChunk:
    def cut(values: Any) -> Any:
        return None if values is None else values[:rows]

    return replace(
        chunk,
        images=chunk.images[:rows],
        ids=chunk.ids[:rows],
        labels=cut(chunk.labels),
        paths=cut(chunk.paths),
        sizes=cut(chunk.sizes),
    )
