"""Photos: scenes whose images are decoded when a training asks for them, and kept within a budget of memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selftrain.data.annotations.table import Annotations
from selftrain.data.images.decode import decode
from selftrain.data.images.openers import image_bytes
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.errors import ImageError
from selftrain.learn.detection.scenes import Scenes
from selftrain.learn.detection.views import Pixels, shrunk
from selftrain.learn.shapes.objects import Objects
from selftrain.learn.shapes.outlines import Outline
from selftrain.progress import Progress, silent

LONGEST = 1024
"""Pixels: the longer side at which an image is learned from and looked at, at most; larger ones are made smaller."""

WHOLE = 1 << 30
"""A longer side that no image has: all of them keep their size."""

_BUDGET = 1 << 30  # bytes of decoded images that are kept


class Photos(Sequence[Pixels]):
    """`count` images as pixels (h, w, 3), at most `longest` pixels long; `read` gives the encoded bytes of each."""

    def __init__(
        self, count: int, read: Callable[[int], bytes], *, longest: int = LONGEST, budget: int = _BUDGET
    ) -> None:
        self._count, self._read, self._longest, self._budget = count, read, longest, budget
        self._kept: OrderedDict[int, Pixels] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Pixels: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...

    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        if at in self._kept:
            self._kept.move_to_end(at)
            return self._kept[at]
        pixels = shrunk(decode(self._read(at), None), self._longest)
        self._kept[at] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._budget and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels


def files_at(paths: Sequence[str], *, longest: int) -> Photos:
    """The image files at `paths`."""
    return Photos(len(paths), lambda at: image_bytes(paths[at]), longest=longest)


def scenes_of(labelled: LabelledImages, rows: Sequence[int], *, longest: int = LONGEST) -> Scenes:
    """The images at `rows` of `labelled`, with their objects in the pixels of `Photos`; crowds are ignored."""
    table = labelled.images.take(list(rows))
    objects = objects_of(labelled.annotations, table, name="name", longest=longest)
    return Scenes(files_at(table["path"].to_pylist(), longest=longest), objects)


def objects_of(annotations: Annotations, images: pa.Table, *, name: str, longest: int) -> tuple[Objects, ...]:
    """The objects of each of `images`, whose column `name` is the annotations' image_id; crowds are ignored."""
    first, count = annotations.spans(images[name].cast(pa.string()))
    objects = []
    for start, many, width, height in zip(
        first, count, images["width"].to_pylist(), images["height"].to_pylist(), strict=True
    ):
        scale = min(1.0, longest / max(width, height))
        own = slice(int(start), int(start + many))
        labels = annotations.labels[own].astype(np.int64)
        outlines = _outlines(annotations, own, height=height, width=width, scale=scale)
        boxes = annotations.boxes[own] * np.float32(scale)
        objects.append(Objects.of(boxes, labels, annotations.crowd[own], outlines))
    return tuple(objects)


def _outlines(
    annotations: Annotations, own: slice, *, height: int, width: int, scale: float
) -> NDArray[np.object_] | None:
    """The outlines (k,) of an image's objects, in an image at `scale`; None where no object has one."""
    masks = annotations.masks(own)
    if all(mask is None for mask in masks):
        return None
    out = np.empty(len(masks), object)
    for row, mask in enumerate(masks):
        out[row] = None if mask is None else Outline(mask, height, width, scale)
    return out


def outlined(annotations: Annotations, images: pa.Table, *, name: str) -> float:
    """The share of the objects of `images` that have an outline, crowds aside; 0 without any object."""
    first, count = annotations.spans(images[name].cast(pa.string()))
    rows = np.concatenate([np.empty(0, np.int64), *(np.arange(a, a + n) for a, n in zip(first, count, strict=True))])
    rows = rows[~annotations.crowd[rows]]
    return float(annotations.has_mask[rows].mean()) if len(rows) else 0.0


def longest_for(annotations: Annotations, images: pa.Table, *, name: str, view: int) -> int:
    """The longer side at which to look at `images`, so that nine of ten of their objects fit twice into a `view`."""
    whole = Scenes((), objects_of(annotations, images, name=name, longest=WHOLE)).longer_sides()
    longer = np.maximum(images["width"].to_numpy(), images["height"].to_numpy())
    scale = min(1.0, view / 2 / float(np.quantile(whole, 0.9))) if len(whole) else 1.0
    return min(LONGEST, max(view, round(scale * float(np.median(longer)))))


@dataclass(frozen=True)
class Pool:
    """Images without labels: their `paths`, how many of them are `labelled` ones, and those that are not `readable`."""

    paths: tuple[str, ...]
    labelled: int
    unreadable: tuple[tuple[str, str], ...]

    def scenes(self, *, longest: int = LONGEST) -> Scenes:
        """The images, whose objects nobody marked."""
        none = Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        return Scenes(files_at(self.paths, longest=longest), (none,) * len(self.paths))


def pool_of(paths: Iterable[str], labelled: Iterable[str], *, progress: Progress = silent) -> Pool:
    """The images at `paths`, without copies of `labelled` ones, which would be learned from twice or leak into a test.

    A file that cannot be decoded is left out, with the reason.
    """
    known = {_digest(path) for path in labelled}
    every, kept, copies, unreadable = list(paths), [], 0, []
    for count, path in enumerate(every, 1):
        progress(count, len(every), "looking at the pool")
        try:
            data = image_bytes(path)
            decode(data, None)
        except (ImageError, OSError) as error:
            unreadable.append((path, str(error)))
            continue
        if hashlib.sha256(data).hexdigest() in known:
            copies += 1
        else:
            kept.append(path)
    return Pool(tuple(kept), copies, tuple(unreadable))


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
