"""Image quality: hints at images that may be unfit to learn from, measured on what a model would see of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.data.images.decode import decode
from selftrain.errors import ImageError

if TYPE_CHECKING:
    from selftrain.data.manifest import Manifest
    from selftrain.data.store.image_store import ImageStore

Doubles = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Images = npt.NDArray[np.uint8]

SIDE = 64
"""Images are measured at this many pixels per side, or at their own shorter side if it is smaller."""
LEAST_SIDE = 32
"""Below this, an image has too few pixels to tell a blurred one from a simple one."""
MOST_IMAGES, MOST_PIXELS = 100_000, 3_000_000_000
"""What is decoded at most, about a minute on one core."""
WORST = 12
DARK, BRIGHT, FLAT = 0.32 * 255, 0.95 * 255, 8.0
"""99 % of a dark image is below the first, 95 % of a bright one above the second, and a plain one spans less.
Some sets are dark by nature, so a dark or bright image is also twice as near to black or white as the median."""
SMOOTH, SMOOTHER = 0.03, 1 / 8
"""A blurred image is less sharp than the first, and less than this share of what is usual in its set."""
SHAPES_APART, SIZES_APART = 3.0, 5.0
"""The factor between an image and the median of its set."""
_CHUNK = 1024
_TO_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


class Hint(StrEnum):
    """What may be wrong with an image."""

    PLAIN = "nearly one colour"
    DARK = "dark"
    BRIGHT = "bright"
    BLURRED = "blurred"
    SHAPE = "of an odd shape"
    SIZE = "of an odd size"


class HintedImage(BaseModel):
    """An image with a hint, and the value that gave it, in words."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    origin: str
    value: str


class HintedKind(BaseModel):
    """How many images have one kind of hint, and the worst of them first, up to 12."""

    model_config = ConfigDict(frozen=True)

    hint: Hint
    images: int
    worst: tuple[HintedImage, ...]


class QualityReport(BaseModel):
    """The hints of a set of `images`, of which `looked_at` were decoded, and `too_small` not looked at for blur.

    `share` (0-1) is that of images with a hint, among those that were looked at.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    looked_at: int
    share: float
    too_small: int = 0
    kinds: tuple[HintedKind, ...] = ()


@dataclass(frozen=True)
class _Found:
    """How bad each image is (n,), 0 or less for no hint, and the `values` (each (n,)) that `text` puts in words."""

    badness: Doubles
    text: str
    values: tuple[Doubles, ...]

    def words(self, row: int) -> str:
        return self.text.format(*(each[row] for each in self.values))


def measure(images: Images) -> Doubles:
    """The measures (n, 4) of uint8 `images` (n, s, s, 3): brightness percentiles 1, 5 and 99 (0-255), and sharpness.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) over the variance of the image, so that
    it does not depend on contrast: white noise has 20, a photograph about 0.3. It is NaN below 32 pixels.

    >>> measure(np.full((1, 32, 32, 3), 200, np.uint8)).round(2).tolist()
    [[200.0, 200.0, 200.0, 0.0]]
    """
    gray = images.astype(np.float32) @ _TO_GRAY
    low, fifth, high = np.percentile(gray.reshape(len(gray), -1), [1, 5, 99], axis=1)
    if images.shape[1] < LEAST_SIDE:
        return np.stack([low, fifth, high, np.full(len(gray), np.nan)], axis=1)
    inner = gray[:, 1:-1, 1:-1]
    edges = gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] - 4 * inner
    sharpness = edges.var(axis=(1, 2)) / (gray.var(axis=(1, 2)) + 1e-3)
    return np.stack([low, fifth, high, sharpness], axis=1).astype(np.float64)


def quality(manifest: Manifest, store: ImageStore | None) -> QualityReport:
    """The hints of the images of `manifest`; without a `store` to decode from, those of shape and size alone.

    Above 100,000 images or 3,000 megapixels, those with the smallest ids are decoded: a draw by chance, as an id is a
    digest. Raises ManifestError for a shard that is missing.
    """
    width, height = (manifest.table[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    rows = np.zeros(0, np.int64) if store is None else _drawn(manifest, width * height)
    sides = np.minimum(np.minimum(width, height), SIDE).astype(np.int64)
    measures = np.full((len(manifest), 4), np.nan)
    if store is not None:
        for at, images in _decoded(manifest, store, rows, sides):
            measures[at] = measure(images)
    hints = _hints(measures, width, height)
    hinted = np.any([found.badness > 0 for found in hints.values()], axis=0)
    hinted = hinted if store is None else hinted[rows]
    return QualityReport(
        images=len(manifest),
        looked_at=len(rows),
        share=float(hinted.mean()) if len(hinted) else 0.0,
        too_small=int((sides[rows] < LEAST_SIDE).sum()),
        kinds=tuple(_kind(hint, found, manifest) for hint, found in hints.items() if (found.badness > 0).any()),
    )


def _drawn(manifest: Manifest, pixels: Doubles) -> Int64s:
    """Rows in the order of their ids, as many as may be decoded."""
    order = pc.sort_indices(manifest.table["image_id"]).to_numpy().astype(np.int64)[:MOST_IMAGES]
    fit: Int64s = order[np.cumsum(pixels[order]) <= MOST_PIXELS]
    return fit


def _decoded(
    manifest: Manifest, store: ImageStore, rows: Int64s, sides: Int64s
) -> Iterator[tuple[Int64s, npt.NDArray[np.uint8]]]:
    """`rows` in batches of images (k, side, side, 3) of one side, in the order of the shards, without damaged ones."""
    shards = np.asarray(manifest.table["shard"].cast("string").to_pylist(), dtype=object)
    index = manifest.table["index"].to_numpy().astype(np.int64)
    order = rows[np.lexsort((index[rows], shards[rows].astype(str)))]
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        groups: dict[int, list[tuple[int, Images]]] = {}
        for row, data in zip(chunk.tolist(), store.read(shards[chunk], index[chunk]), strict=True):
            try:
                image = decode(data, int(sides[row]), lenient=True, bits=manifest.bits)
            except ImageError:
                continue
            groups.setdefault(int(sides[row]), []).append((row, image))
        for found in groups.values():
            yield np.array([row for row, _ in found]), np.stack([image for _, image in found])


def _hints(measures: Doubles, width: Doubles, height: Doubles) -> dict[Hint, _Found]:
    low, fifth, high, sharpness = measures.T
    _, usual_fifth, usual_high, usual = (_median(each) for each in measures.T)
    plain = high - low < FLAT
    dark = np.where(plain, 0, min(DARK, usual_high / 2) - high)
    bright = np.where(plain, 0, fifth - max(BRIGHT, (255 + usual_fifth) / 2))
    blurred = np.where(plain, 0, min(SMOOTH, SMOOTHER * usual) - sharpness)
    shape, size = np.abs(np.log(width / height)), np.log(width * height) / 2
    sides = (width, height)
    return {
        Hint.PLAIN: _Found(FLAT - (high - low), "brightness {:.0f} to {:.0f} of 255", (low, high)),
        Hint.DARK: _Found(dark, "99 % of it below {:.0f} of 255", (high,)),
        Hint.BRIGHT: _Found(bright, "95 % of it above {:.0f} of 255", (fifth,)),
        Hint.BLURRED: _Found(blurred, f"sharpness {{:.4f}}, usually {usual:.2f}", (sharpness,)),
        Hint.SHAPE: _Found(_apart(shape, SHAPES_APART), "{:.0f} x {:.0f} pixels", sides),
        Hint.SIZE: _Found(_apart(size, SIZES_APART), "{:.0f} x {:.0f} pixels", sides),
    }


def _median(values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _apart(logs: Doubles, factor: float) -> Doubles:
    """How much farther than by `factor` each value (n,), a logarithm, is from the median."""
    return np.asarray(np.abs(logs - _median(logs)) - np.log(factor))


def _kind(hint: Hint, found: _Found, manifest: Manifest) -> HintedKind:
    count = int((found.badness > 0).sum())
    rows = np.argsort(-np.nan_to_num(found.badness), kind="stable")[: min(count, WORST)]
    named = manifest.table.select(["image_id", "origin"]).take(rows).to_pylist()
    worst = [HintedImage(value=found.words(row), **each) for each, row in zip(named, rows.tolist(), strict=True)]
    return HintedKind(hint=hint, images=count, worst=tuple(worst))
