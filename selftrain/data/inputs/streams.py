"""Streams: a user's iterable of images or batches, cut into chunks of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from selftrain.data.inputs.endless import batches, first_rows, is_keras_sequence
from selftrain.data.inputs.images import (
    COLOURS,
    KINDS,
    Array,
    ImageChunk,
    ImageStream,
    Shape,
    chunk_rows,
    image_chunk,
    name_kind,
    refuse_shape,
    to_array,
    to_labels,
)
from selftrain.data.inputs.labels import joined_labels
from selftrain.errors import SourceError

_BATCHED = 256


def batch_stream(
    stream: object, *, role: str, labeled: bool, image_rank: int | None, limit: int | None = None
) -> ImageStream:
    """A tf.data.Dataset, a DataLoader, a map-style dataset or any iterable, of batches or of single images.

    Labelled elements are pairs (images, labels); of an unlabelled tuple only the first part is read. `image_rank`, the
    number of dimensions of one image, tells whether an element is a batch. If it is None, the shapes of the first
    element tell. What has been read is not kept. Nothing is read beyond `limit` images. Raises SourceError for an
    unlabelled DataLoader that drops its last batch.
    """
    if not labeled:
        _refuse_dropping(stream, role=role)
    count = _length(stream, role=role, labeled=labeled, rank=image_rank)
    single: bool | None = None
    spec: Any = getattr(stream, "element_spec", None)
    if spec is not None and _says_batch(_shape_of(spec, role=role, labeled=labeled)[0]):
        single = False
    elif spec is not None and _is_single(spec, role=role, labeled=labeled, rank=image_rank):
        stream = _batched(stream)
        single = False

    def chunks() -> Iterator[ImageChunk]:
        pairs = _pairs(stream, role=role, labeled=labeled, rank=image_rank, single=single)
        return _rechunked(pairs if limit is None else first_rows(pairs, limit), role)

    return ImageStream(chunks, count)


def _refuse_dropping(stream: Any, *, role: str) -> None:
    """Raise SourceError for a DataLoader that leaves out the images of an incomplete last batch."""
    if getattr(stream, "drop_last", None) is True and hasattr(stream, "dataset") and not _fills_batches(stream):
        raise SourceError(f"{role} drops its last batch, so some images would get no label; give it drop_last=False")


def _fills_batches(loader: Any) -> bool:
    """Whether the images of a DataLoader are a multiple of its batch size, so that none is left out."""
    try:
        return bool(len(loader.dataset) % loader.batch_size == 0)
    except (TypeError, AttributeError, ZeroDivisionError):
        return False


def _elements(stream: Any, role: str) -> Iterator[object]:
    """The elements of `stream`, from its beginning."""
    if hasattr(stream, "as_numpy_iterator"):
        return iter(stream.as_numpy_iterator())
    if is_keras_sequence(stream):
        return batches(stream)
    if isinstance(stream, Iterable) and not isinstance(stream, str | bytes | Mapping):
        return iter(stream)
    if hasattr(stream, "__getitem__") and hasattr(stream, "__len__"):
        return (stream[row] for row in range(len(stream)))
    raise SourceError(f"{role} is {name_kind(stream)}; allowed are {KINDS}")


def _batched(stream: Any) -> object:
    """Let TensorFlow batch a tf.data.Dataset of single elements: reading them one by one takes longer than a model."""
    return stream.batch(_BATCHED)


def _pairs(
    stream: object, *, role: str, labeled: bool, rank: int | None, single: bool | None
) -> Iterator[tuple[Array, Array | None]]:
    """(images, labels) of each element; a single image becomes a batch of 1. If `single` is None, the first tells."""
    for number, element in enumerate(_elements(stream, role)):
        image, label = _halves(element, role=role, labeled=labeled)
        if labeled and label is None:
            raise SourceError(f"{role}: the label of its element {number} is None; give each image a label")
        images = to_array(image)
        labels = None if label is None else to_labels(label)
        if single is None:
            loads_batches = getattr(stream, "batch_size", None) is not None and hasattr(stream, "dataset")
            single = not loads_batches and is_single(images.shape, None if labels is None else labels.shape, rank)
        if single:
            images, labels = images[None], None if labels is None else labels[None]
        refuse_shape(images.shape[1:], role)
        if labels is not None and (labels.ndim == 0 or len(labels) != len(images)):
            raise SourceError(
                f"{role}: a batch has {len(images)} images and labels of shape {labels.shape}; give one label per image"
            )
        yield images, labels


def _halves(element: object, *, role: str, labeled: bool) -> tuple[object, object | None]:
    if isinstance(element, Mapping):
        raise SourceError(f"{role}: its elements are dicts with {', '.join(map(str, element))}; map them to tuples")
    parts = tuple(element) if isinstance(element, list | tuple) else (element,)
    if labeled and len(parts) != 2:
        raise SourceError(f"{role}: its elements have {len(parts)} part(s); labelled ones are pairs (images, labels)")
    if not parts:
        raise SourceError(f"{role}: its elements are empty")
    return parts[0], parts[1] if labeled else None


def is_single(image: Sequence[int | None], label: Sequence[int | None] | None, rank: int | None) -> bool:
    """Whether an element of these shapes is one image and not a batch; `rank` is that of an image, if known.

    >>> is_single((32, 32, 3), None, None), is_single((16, 8, 8), (16,), None), is_single((8, 8, 1), (10,), None)
    (True, False, True)
    """
    if rank is not None:
        return len(image) <= rank
    if len(image) != 3:
        return len(image) < 3
    if label is not None and len(label) == 0:
        return True
    return image[-1] in COLOURS or image[0] in (1, 3)


def _is_single(spec: Any, *, role: str, labeled: bool, rank: int | None) -> bool:
    """`is_single` for a tf.data element_spec; False if the spec does not tell."""
    image, label = _shape_of(spec, role=role, labeled=labeled)
    return image is not None and not _says_batch(image) and is_single(image, label, rank)


def _shape_of(spec: Any, *, role: str, labeled: bool) -> tuple[Shape | None, Shape | None]:
    """The shapes of the image and the label in a tf.data element_spec; None where the spec does not tell."""
    image, label = _halves(spec, role=role, labeled=labeled)
    return _known_shape(image), _known_shape(label)


def _known_shape(spec: object) -> Shape | None:
    shape: Any = getattr(spec, "shape", None)
    return None if shape is None or shape.rank is None else tuple(shape)


def _says_batch(shape: Shape | None) -> bool:
    """Whether only the first dimension is unknown, as it is for batches: the last batch may be smaller."""
    return shape is not None and len(shape) > 2 and shape[0] is None and None not in shape[1:]


def _length(stream: Any, *, role: str, labeled: bool, rank: int | None) -> int | None:
    """The number of images of `stream`, if it can be known without reading it."""
    if is_keras_sequence(stream):
        return None  # its length counts batches
    for sized in (getattr(stream, "dataset", stream), stream):
        spec = getattr(sized, "element_spec", None)
        if spec is not None and not _is_single(spec, role=role, labeled=labeled, rank=rank):
            return None  # its length counts batches
        try:
            return len(sized)
        except (TypeError, AttributeError):
            continue
    return None


def _rechunked(pairs: Iterator[tuple[Array, Array | None]], role: str) -> Iterator[ImageChunk]:
    """Chunks with the same number of rows, however the pairs were cut."""
    waiting: list[tuple[Array, Array | None]] = []
    count = rows = first = 0
    for images, labels in pairs:
        if waiting and images.shape[1:] != waiting[0][0].shape[1:]:
            raise SourceError(
                f"{role}: images of different shapes, {waiting[0][0].shape[1:]} and {images.shape[1:]}; "
                "resize them to one"
            )
        rows = rows or chunk_rows(images)
        waiting.append((images, labels))
        count += len(images)
        while count >= rows:
            images, labels = _joined(waiting, role)
            yield image_chunk(images[:rows], None if labels is None else labels[:rows], role, first=first)
            first += rows
            waiting = [(images[rows:], None if labels is None else labels[rows:])]
            count -= rows
    if count:
        images, labels = _joined(waiting, role)
        yield image_chunk(images, labels, role, first=first)


def _joined(parts: list[tuple[Array, Array | None]], role: str) -> tuple[Array, Array | None]:
    images = np.concatenate([images for images, _ in parts])
    labels = [labels for _, labels in parts if labels is not None]
    return images, joined_labels(labels, role=role) if labels else None
