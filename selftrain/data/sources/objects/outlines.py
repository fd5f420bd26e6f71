"""Outlines: COCO's polygons and run lengths become masks, once their numbers were checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.data.annotations.run_lengths import compressed, run_lengths
from selftrain.data.sources.objects.checking import FARTHEST
from selftrain.data.sources.objects.labelled import Fault

_LEAST = 6  # coordinates of a polygon
_MOST_PIXELS = 1 << 28
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Outline:
    """A mask, and the box around it as drawn; or why the object cannot be used. All None: no outline."""

    mask: bytes | None = None
    box: Box | None = None
    fault: Fault | None = None


NONE = Outline()


def outline_of(segmentation: object, *, width: int, height: int) -> Outline:
    """The outline that COCO's `segmentation` of an image `width` x `height` describes.

    Parts of a polygon with fewer than three points are dropped. Several parts are united: polygons have no holes.

    >>> outline_of([[1, 1, 3, 1, 3, 3, 1, 3]], width=4, height=4).box
    (1.0, 1.0, 3.0, 3.0)
    """
    match segmentation:
        case {"counts": counts, "size": size}:
            return _from_runs(counts, size, width=width, height=height)
        case {}:
            return Outline(fault=Fault.RLE_COUNTS) if segmentation else NONE
        case [{"counts": _, "size": _} as alone]:  # some tools put run lengths into a list
            return outline_of(alone, width=width, height=height)
        case list() if len(segmentation) > 2 and all(
            isinstance(each, list) and len(each) == 2 for each in segmentation
        ):
            return _from_polygons([[value for point in segmentation for value in point]], width=width, height=height)
        case list() if segmentation and all(isinstance(part, list) for part in segmentation):
            return _from_polygons(segmentation, width=width, height=height)
        case list() if len(segmentation) >= _LEAST:
            return _from_polygons([segmentation], width=width, height=height)
        case list() | None:
            return NONE
        case _:
            return Outline(fault=Fault.NOT_NUMBERS)


def _from_polygons(parts: list[list[object]], *, width: int, height: int) -> Outline:
    used: list[npt.NDArray[np.float64]] = []
    for part in parts:
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in part):
            return Outline(fault=Fault.NOT_NUMBERS)
        if len(part) % 2:
            return Outline(fault=Fault.ODD_COORDINATES)
        if len(part) >= _LEAST:
            used.append(np.array([_limited(value) for value in part], np.float64).reshape(-1, 2))
    if not used:
        return NONE
    points = np.concatenate(used)
    if not np.isfinite(points).all():
        return Outline(fault=Fault.NOT_FINITE)
    if (np.abs(points) > FARTHEST * np.array([width, height])).any():
        return Outline(fault=Fault.FAR)
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Outline(_filled(used, width=width, height=height), (low[0], low[1], high[0], high[1]))


def _limited(value: object) -> float:
    """`value`, or infinity where it is too large for a float."""
    try:
        return float(value)  # type: ignore[arg-type]  # its caller has found it to be a number
    except OverflowError:
        return math.inf


def _filled(parts: list[npt.NDArray[np.float64]], *, width: int, height: int) -> bytes | None:
    """The pixels inside any of the polygons; None if there are none."""
    from pycocotools import mask as coco

    runs = coco.frPyObjects([part.ravel().tolist() for part in parts], height, width)
    whole = coco.merge(runs)
    return bytes(whole["counts"]) if int(coco.area(whole)) else None


def _from_runs(counts: object, size: object, *, width: int, height: int) -> Outline:
    if size != [height, width]:
        return Outline(fault=Fault.RLE_SIZE)
    match counts:
        case str() if counts.isascii():
            text = counts.encode()
        case list() if all(type(run) is int and 0 <= run <= _MOST_PIXELS for run in counts):
            text = compressed(counts)
        case _:
            return Outline(fault=Fault.RLE_COUNTS)
    lengths = run_lengths(pa.array([text], pa.large_binary()))
    if bool(lengths.bad[0]) or int(lengths.pixels()[0]) != width * height:
        return Outline(fault=Fault.RLE_COUNTS)
    if int(lengths.areas()[0]) == 0:
        return NONE
    return Outline(compressed(_merged(lengths.counts)), _around(lengths.counts, height))


def _merged(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same runs, each of them with a pixel at least; some tools write empty ones in between."""
    if (counts[1:] > 0).all():
        return counts
    values = np.arange(len(counts)) % 2
    kept = counts > 0
    values, runs = values[kept], counts[kept]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    joined = np.add.reduceat(runs, starts)
    return np.concatenate([[0], joined]) if values[0] else joined


def _around(counts: npt.NDArray[np.int64], height: int) -> Box:
    """The box around the pixels of run lengths that go down column by column."""
    ends = np.cumsum(counts)
    inside = (np.arange(len(counts)) % 2 == 1) & (counts > 0)
    first, last = (ends - counts)[inside], ends[inside] - 1
    wraps = (first // height != last // height).any()
    top = 0 if wraps else int((first % height).min())
    bottom = height if wraps else int((last % height).max()) + 1
    return float(first[0] // height), float(top), float(last[-1] // height + 1), float(bottom)


def box_around(box: Box, turn: float) -> Box:
    """The upright box around one that is turned around its centre by `turn` radians.

    >>> [round(each, 3) for each in box_around((0.0, 2.0, 8.0, 6.0), math.pi / 2)]
    [2.0, 0.0, 6.0, 8.0]
    """
    (x0, y0, x1, y1), c, s = box, abs(math.cos(turn)), abs(math.sin(turn))
    x, y, half_w, half_h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    wide, high = half_w * c + half_h * s, half_w * s + half_h * c
    return x - wide, y - high, x + wide, y + high


def share_inside(inner: Box, outer: Box) -> float:
    """The share of the box `inner` that lies in `outer`; 1 where `inner` has no area, or `outer` is not finite.

    >>> share_inside((0.0, 0.0, 4.0, 2.0), (1.0, 0.0, 9.0, 9.0))
    0.75
    """
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    if area <= 0 or not all(map(math.isfinite, (*inner, *outer))):
        return 1.0
    wide, high = (min(inner[k + 2], outer[k + 2]) - max(inner[k], outer[k]) for k in (0, 1))
    return max(wide, 0.0) * max(high, 0.0) / area


def turn_of(degrees: object) -> float:
    """The radians of a `rotation`, as CVAT writes it beside a rectangle that it has not turned; 0 for anything else.

    >>> turn_of("90.0") == turn_of(90), turn_of(360.0), turn_of(None)
    (True, 0.0, 0.0)
    """
    try:
        turn = float(str(degrees)) % 360
    except ValueError:
        return 0.0
    return math.radians(turn) if math.isfinite(turn) else 0.0


def turned_said(count: int) -> str:
    """A note on `count` rectangles."""
    return f"{count} rectangles are turned (the attribute `rotation`): the upright boxes around them are taken"
