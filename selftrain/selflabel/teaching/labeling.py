"""Labelling the pool: a teacher's answers, shard by shard, and the pseudo-labels from all shards together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.config import PseudoLabel
from selftrain.data.manifest import Int64s, Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.errors import PredictionError
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.models.calibrate import FEWEST, cross_fitted_probs, fit_temperature, softmax
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.predict import predict_logits
from selftrain.progress import Progress, silent
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select


def label_shard(
    pixels: Pixels, teacher: SavedModel, *parts: Int64s, settings: PseudoLabel, progress: Progress = silent
) -> pa.Table:
    """The teacher's logits for the images of `pixels` in `parts`: columns `row` and `logits`, in that order.

    Each part holds rows (k,) and is asked in batches of its own. The last bits of a logit may depend on the batch that
    it was computed in, so a part has the same answers whatever else is asked.
    """
    model, contract = load(teacher.folder)
    total, asked = sum(map(len, parts)), 0
    answers = [np.empty((0, len(contract.class_names)), np.float32)]
    for rows in parts:
        show = _from(asked, total, progress)
        logits = predict_logits(
            model, pixels, rows, batch_size=settings.batch_size, flips=settings.flips, progress=show
        )
        answers.append(logits)
        asked += len(rows)
    flat = pa.array(np.concatenate(answers).reshape(-1))
    asked_rows = np.concatenate([np.empty(0, np.int64), *parts])
    return pa.table({"row": asked_rows, "logits": pa.FixedSizeListArray.from_arrays(flat, len(contract.class_names))})


def _from(asked: int, whole: int, progress: Progress) -> Progress:
    """The progress of one part, which begins after `asked` of `whole` images."""

    def show(done: int, total: int, note: str = "") -> None:
        progress(asked + done, whole, note)

    return show


def join(
    manifest: Manifest,
    teacher: SavedModel,
    shards: Sequence[pa.Table],
    *,
    settings: PseudoLabel,
    round_index: int,
) -> PseudoLabels:
    """Pseudo-labels for every unlabelled image of `manifest`, from the shards' logits in any order.

    The validation images calibrate the probabilities and measure the precision of what is accepted. Each of them gets a
    temperature that was fitted on others. The pool gets the temperature that was fitted on all of them. If there are
    too few, it gets the contract's temperature and nothing is measured. Raises PredictionError if an image has no
    answer or more than one, or if a shard has another number of classes.
    """
    contract, held_rows, rows = teacher.contract, manifest.rows(Split.VALIDATION), manifest.rows(Split.UNLABELED)
    logits = _in_order(shards, np.concatenate([held_rows, rows]), classes=len(contract.class_names))
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


def _no_answers(classes: int) -> pa.Table:
    """A shard without images."""
    return pa.table({"row": pa.array([], pa.int64()), "logits": pa.array([], pa.list_(pa.float32(), classes))})


def _in_order(shards: Sequence[pa.Table], rows: Int64s, *, classes: int) -> npt.NDArray[np.float32]:
    """The logits (n, classes) of `rows` (n,), from shards in any order."""
    for shard in shards:
        width = shard.schema.field("logits").type.list_size
        if width != classes:
            raise PredictionError(f"a shard has {width} logits per image, not {classes}; label it with this teacher")
    table = pa.concat_tables([_no_answers(classes), *shards]).combine_chunks()
    answered = table["row"].to_numpy()
    order = np.argsort(answered, kind="stable")
    if not np.array_equal(answered[order], np.sort(rows)):
        raise PredictionError(
            f"{len(answered)} answers for {len(rows)} images: each image needs one; label the shards of this manifest"
        )
    logits = np.asarray(table["logits"].combine_chunks().flatten()).reshape(-1, classes)
    return logits[order[np.searchsorted(answered[order], rows)]]
