"""Examples: the images and targets that a training draws from a data set."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from selftrain.config import Student
from selftrain.data import columns
from selftrain.data.manifest import LabelSource, Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.course import Unlabeled


def whole_pool(manifest: Manifest, recipe: Student) -> Unlabeled:
    """The images that in-training methods learn from: all training images, with or without a human label."""
    pool = manifest.rows(Split.TRAIN, Split.UNLABELED)
    return Unlabeled(pool, recipe.method, recipe.consistency)


def examples(manifest: Manifest, pixels: Pixels, split: Split, *, pseudo_weight: float = 0.0) -> Examples:
    """The images of one split, with targets (n, classes), weights (n,) and whether a person labelled them.

    A pseudo-label's weight is multiplied by `pseudo_weight`. Images of weight 0 are left out.
    """
    rows = manifest.rows(split)
    table = manifest.table.take(rows)
    human = pc.equal(table["label_source"], LabelSource.HUMAN.value).to_numpy(zero_copy_only=False).astype(bool)
    classes = len(manifest.label_map)
    targets = np.eye(classes, dtype=np.float32)[manifest.labels()[rows]]
    soft = pc.is_valid(table["probs"]).to_numpy(zero_copy_only=False)
    if soft.any():
        probs = columns.list_values(table["probs"], classes)
        targets[soft] = probs / probs.sum(axis=1, keepdims=True)
    own = pc.fill_null(table["weight"], 1.0).to_numpy(zero_copy_only=False)
    weights = np.where(human, 1.0, own * pseudo_weight).astype(np.float32)
    used = weights > 0
    return Examples(
        pixels=pixels,
        rows=rows[used],
        targets=targets[used],
        weights=weights[used],
        human=human[used],
        hard=~soft[used],
    )
