"""The images that a teacher is asked about in a round."""

from __future__ import annotations

import numpy as np

from selftrain.config import PseudoLabel
from selftrain.data.manifest import Int64s, Manifest, Split


def asked_splits(settings: PseudoLabel) -> tuple[Split, ...]:
    """The splits whose images a teacher is asked about, in the order of `asked_rows`.

    Validation calibrates the teacher. Where labels are spread over similar images, the labelled ones are asked too.
    """
    both = (Split.VALIDATION, Split.UNLABELED)
    return (Split.TRAIN, *both) if settings.labeler == "propagate" else both


def asked_rows(manifest: Manifest, settings: PseudoLabel) -> Int64s:
    """The rows (n,) of `manifest` that a teacher is asked about, split by split."""
    return np.concatenate([manifest.rows(split) for split in asked_splits(settings)])
