"""Labelling the pool: from a teacher and the unlabelled images to pseudo-labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from selftrain.config import PseudoLabel
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.models.calibrate import FEWEST, cross_fitted_probs, fit_temperature, softmax
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.predict import predict_logits
from selftrain.progress import Progress, silent
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select


def label_pool(
    manifest: Manifest,
    pixels: Pixels,
    teacher: SavedModel,
    *,
    settings: PseudoLabel,
    round_index: int,
    progress: Progress = silent,
) -> PseudoLabels:
    """Pseudo-labels for every unlabelled image of `manifest`, from the teacher's calibrated probabilities.

    The validation images are asked alike, and what is accepted is measured on their labels: each image's temperature is
    fitted on the others, the pool's on all of them. Too few of them to fit one leave the temperature of its contract.
    """
    model, contract = load(teacher.folder)
    rows, held_rows = manifest.rows(Split.UNLABELED), manifest.rows(Split.VALIDATION)
    logits = predict_logits(
        model,
        pixels,
        np.concatenate([held_rows, rows]),
        batch_size=settings.batch_size,
        flips=settings.flips,
        progress=progress,
    )
    held_logits, pool_logits = logits[: len(held_rows)], logits[len(held_rows) :]
    held_labels = manifest.labels()[held_rows].astype(np.int64)
    fits = len(held_rows) >= FEWEST
    labels = select(
        np.asarray(manifest.image_ids())[rows],
        softmax(pool_logits, fit_temperature(held_logits, held_labels) if fits else contract.temperature),
        settings,
        round_index=round_index,
        teacher=contract.identity,
        class_names=contract.class_names,
        held_out=HeldOut(cross_fitted_probs(held_logits, held_labels), held_labels) if fits else None,
        prior=np.bincount(manifest.labels()[manifest.rows(Split.TRAIN)], minlength=len(contract.class_names)),
    )
    return replace(labels, lineage=contract.lineage)
