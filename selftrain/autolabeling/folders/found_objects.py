"""Objects found in image files: read ahead by threads, looked at by a detector, kept from a score per class on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.sources import ListedImage
from selftrain.data.images.decode import decode, quiet
from selftrain.errors import ImageError
from selftrain.learn.detection.saving import DetectorContract, SavedDetector
from selftrain.learn.models.predict_files import Unread
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.learn.detection.detect import Detections

Pixels = NDArray[np.uint8]
BY_DEFAULT = 0.5
"""The lowest score of a class whose threshold the detector's contract does not know."""
UNSURE = 0.05
"""From this score on a box of one view counts, where several views are averaged."""
HELD = 1 << 28
"""Bytes of decoded images from which on no more are read ahead."""
BATCH = 8
"""Images that a detector looks at together; an incomplete batch costs as much as a whole one."""


class ObjectAnswer(BaseModel):
    """One file's objects, the best first, or its `error` instead.

    `boxes` are x, y, width, height in pixels of the image as it is displayed, whose size is `width` and `height`;
    `masks` are COCO's run lengths, None of a detector without outlines.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    width: int | None = None
    height: int | None = None
    boxes: tuple[tuple[float, float, float, float], ...] | None = None
    labels: tuple[str, ...] | None = None
    scores: tuple[float, ...] | None = None
    masks: tuple[dict[str, object], ...] | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """The image file at `path`: its pixels, and the objects in it."""

    path: str
    pixels: Pixels
    objects: Detections


def answer_of(each: Found | Unread, names: Sequence[str]) -> ObjectAnswer:
    """What was found in a file as a row that JSON can hold, or why it could not be read."""
    if isinstance(each, Unread):
        return ObjectAnswer(path=each.path, error=error_of(each))
    boxes, labels, scores, masks = each.objects.plain(names)
    return ObjectAnswer(
        path=each.path,
        height=each.pixels.shape[0],
        width=each.pixels.shape[1],
        boxes=tuple((x, y, w, h) for x, y, w, h in boxes),
        labels=tuple(labels),
        scores=tuple(scores),
        masks=None if masks is None else tuple(masks),
    )


def error_of(each: Unread) -> str:
    """Why a file could not be read, as one text."""
    return f"{each.reason}: {each.detail}" if each.reason else each.detail


def lowest_scores(contract: DetectorContract, threshold: float | None) -> dict[str, float]:
    """The score per class from which a box counts: `threshold`, or those at which the detector was precise."""
    known = contract.thresholds
    return {name: known.get(name, BY_DEFAULT) if threshold is None else threshold for name in contract.class_names}


def find_objects(
    saved: SavedDetector,
    images: Sequence[ListedImage],
    lowest: Mapping[str, float],
    *,
    threads: int,
    batch_size: int = BATCH,
    flips: bool = False,
    progress: Progress = silent,
) -> Iterator[Found | Unread]:
    """What each of `images` holds, in their order; `lowest` is the score per class from which a box counts.

    `flips` averages over mirrored views: 2, or 4 of a detector that was trained on images without an up and down.
    Up to eight batches of decoded images are held at a time, so that those of one size come together; of large images
    fewer. A `reason` of "" is that of a path that names no file.
    """
    from selftrain.learn.detection.detect import Choice
    from selftrain.learn.detection.mirrored import MirroredDetector, Views

    least = np.array([lowest[name] for name in saved.contract.class_names], np.float32)
    floor = float(least.min())
    views: Views = (4 if saved.contract.turns else 2) if flips else 1
    choice = Choice(score=min(floor, UNSURE) if flips else floor, longest=saved.contract.longest)
    detector = MirroredDetector(saved.open(choice), views)
    size, done = min(batch_size, len(images)), 0
    with ThreadPoolExecutor(threads) as pool, quiet():
        for read in _gathered(images, pool, batch_size):
            looked = iter(detector([each for each in read if not isinstance(each, Unread)], batch_size=size))
            for image, each in zip(images[done:], read, strict=False):
                yield each if isinstance(each, Unread) else Found(image.path, each, _kept(next(looked), least))
            done += len(read)
            progress(done, len(images))


def _gathered(
    images: Sequence[ListedImage], pool: ThreadPoolExecutor, batch_size: int
) -> Iterator[list[Pixels | Unread]]:
    """The `images` in their order, read: as many at a time as HELD allows, at most eight batches."""
    read: list[Pixels | Unread] = []
    for start in range(0, len(images), batch_size):
        read += pool.map(read_image, images[start : start + batch_size])
        held = sum(each.nbytes for each in read if not isinstance(each, Unread))
        if held >= HELD or len(read) >= 8 * batch_size:
            yield read
            read = []
    if read:
        yield read


def _kept(objects: Detections, least: NDArray[np.float32]) -> Detections:
    """Those of `objects` that have the score of their class (classes,)."""
    kept = objects.scores >= least[objects.classes]
    masks = None if objects.masks is None else objects.masks[kept]
    return replace(
        objects, boxes=objects.boxes[kept], classes=objects.classes[kept], scores=objects.scores[kept], masks=masks
    )


def read_image(image: ListedImage) -> Pixels | Unread:
    """The image's pixels at their own size, or why there are none."""
    if image.error is not None:
        return Unread(image.path, "", image.error)
    try:
        return decode(image.read(image.path), None)
    except ImageError as error:
        detail = error.message.removeprefix(f"{image.path}: ").removeprefix("image: ")
        return Unread(image.path, str(error.reason), detail)
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Unread(image.path, "unreadable", f"{said}; check the path and its permissions")
