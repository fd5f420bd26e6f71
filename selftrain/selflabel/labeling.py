"""Labelling the pool: from a teacher and the unlabelled images to pseudo-labels."""

from __future__ import annotations

import numpy as np

from selftrain.config import PseudoLabel
from selftrain.data.manifest import Manifest, Split
from selftrain.data.pixels import Pixels
from selftrain.learn.calibrate import softmax
from selftrain.learn.contract import SavedModel, load
from selftrain.learn.predict import predict_logits
from selftrain.progress import Progress, silent
from selftrain.selflabel.pseudo_labels import PseudoLabels, select


def label_pool(
    manifest: Manifest,
    pixels: Pixels,
    teacher: SavedModel,
    *,
    settings: PseudoLabel,
    round_index: int,
    progress: Progress = silent,
) -> PseudoLabels:
    """Pseudo-labels for every unlabelled image of `manifest`, from the teacher's calibrated probabilities."""
    model, contract = load(teacher.folder)
    rows = manifest.rows(Split.UNLABELED)
    logits = predict_logits(
        model, pixels, rows, batch_size=settings.batch_size, flips=settings.flips, progress=progress
    )
    return select(
        np.asarray(manifest.image_ids())[rows],
        softmax(logits, contract.temperature),
        settings,
        round_index=round_index,
        teacher=contract.weights_sha256,
        class_names=contract.class_names,
    )
