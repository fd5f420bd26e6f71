"""Vectors: what frozen networks computed for images, as the runs of a workspace kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.data.store.feature_files import FeatureFiles, feature_files

Floats = npt.NDArray[np.float32]
LEAST_SHARE = 0.9  # of the images asked for; a queue on fewer would miss what it is made to find


@dataclass(frozen=True, eq=False)
class Vectors:
    """The features (n, width) of the images `ids` (n,), each of length 1."""

    ids: tuple[str, ...]
    values: Floats

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {each: row for row, each in enumerate(self.ids)}

    def holds(self, image_id: str) -> bool:
        """Whether there is a vector of the image."""
        return image_id in self._rows

    def known(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of `ids` (n,) have a vector, bool (n,)."""
        return np.fromiter((each in self._rows for each in ids), np.bool_, len(ids))

    def of(self, ids: Sequence[str]) -> Floats:
        """The vectors (n, width) of `ids`; 0 where there is none."""
        rows = np.fromiter((self._rows.get(each, -1) for each in ids), np.int64, len(ids))
        found = np.zeros((len(ids), self.values.shape[1]), np.float32)
        found[rows >= 0] = self.values[rows[rows >= 0]]
        return found


def kept_vectors(folder: Path, ids: Sequence[str]) -> Vectors | None:
    """The features in `folder` that most of `ids` have; None where none cover nine in ten.

    Of those that cover as many, the ones used last are taken.
    """
    if not ids:
        return None
    best: Vectors | None = None
    indexes = [path for path in feature_files(folder) if path.suffix == ".index"]
    for path in sorted(indexes, key=lambda each: -each.stat().st_mtime_ns):
        key, _, width = path.stem.rpartition("-")
        if not width.isdigit():
            continue
        values, there = FeatureFiles(folder, 0).read(key, int(width), ids)
        if there.mean() >= LEAST_SHARE and (best is None or there.sum() > len(best.ids)):
            kept = tuple(each for each, is_there in zip(ids, there.tolist(), strict=True) if is_there)
            best = Vectors(kept, unit(values[there]))
    return best


def unit(values: Floats) -> Floats:
    """The rows of `values` (n, width) with length 1; a row of zeros stays."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths == 0, 1, lengths), np.float32)
