"""A sample of the labelled images of a data set, to ask a brought teacher how it reads images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.data.manifest import Manifest, Split
from selftrain.selflabel.teaching.task import TaskData

if TYPE_CHECKING:
    from selftrain.data.store.dataset import Dataset

MOST = 256  # images


def labeled_sample(data: TaskData, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """At most MOST training and validation images, uint8 (n, size, size, 3), and their classes (n,).

    They are spread evenly over the rows.
    """
    manifest = data.manifest
    rows = np.sort(np.concatenate([manifest.rows(Split.TRAIN), manifest.rows(Split.VALIDATION)]))
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(np.int64))]
    return data.pixels(size).gather(chosen), manifest.labels()[chosen].astype(np.int64)


def sample_when_asked(
    manifest: Manifest, dataset: Callable[[], Dataset]
) -> Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """`labeled_sample` of the labelled images of `manifest` as a function of the side, which opens `dataset` then."""
    return lambda side: labeled_sample(TaskData(manifest.labeled(), dataset()), side)
