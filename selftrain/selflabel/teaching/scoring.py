"""Scoring a model: on validation for the gate, on test once for the report."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.evaluate import metrics
from selftrain.evaluate.detail import DetailedComparison, compare_in_detail
from selftrain.evaluate.evaluation import EvaluationReport, evaluate, evaluate_part
from selftrain.evaluate.wrong_answers import all_errors, wrong_answers
from selftrain.learn.models import divergence
from selftrain.learn.models.calibrate import cross_fitted_probs, softmax
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.kept_features import logits_of
from selftrain.learn.models.loading import load
from selftrain.selflabel.rounds.scores import Scores

FOLDS = 5


def score(manifest: Manifest, pixels: Pixels, saved: SavedModel, *, seed: int = 0) -> Scores:
    """The scores of `saved` on validation; each fold is scored with a temperature fitted on the other folds."""
    rows = manifest.rows(Split.VALIDATION)
    if divergence.reason(saved) is not None:
        return _no_scores(images=len(rows))
    model, contract = load(saved.folder)
    labels = manifest.labels()[rows]
    logits = logits_of(model, contract, pixels, rows)
    probs = cross_fitted_probs(logits, labels, folds=FOLDS, seed=seed)
    return Scores(
        images=len(rows),
        accuracy=metrics.accuracy(labels, probs),
        macro_f1=metrics.macro_f1(labels, probs),
        log_loss=metrics.log_loss(labels, probs),
        calibration_error=metrics.expected_calibration_error(labels, probs),
        calibration_error_uncalibrated=metrics.expected_calibration_error(labels, softmax(logits, 1.0)),
    )


def _no_scores(*, images: int) -> Scores:
    """The scores of a training that diverged: NaN."""
    return Scores(
        images=images,
        accuracy=math.nan,
        macro_f1=math.nan,
        log_loss=math.nan,
        calibration_error=math.nan,
        calibration_error_uncalibrated=math.nan,
    )


def probs_on_test(manifest: Manifest, pixels: Pixels, saved: SavedModel) -> npt.NDArray[np.float32]:
    """Calibrated probabilities (n, classes) for the test images, in manifest order. This is one test-set evaluation."""
    model, contract = load(saved.folder)
    return softmax(logits_of(model, contract, pixels, manifest.rows(Split.TEST)), contract.temperature)


def evaluate_on_test(
    manifest: Manifest,
    final: SavedModel,
    first_teacher: SavedModel,
    control: SavedModel | None = None,
    *,
    baseline: SavedModel | None = None,
    pixels_at: Callable[[Contract], Pixels],
    earlier: Manifest | None = None,
) -> EvaluationReport:
    """The report on the final model on test, compared with the first teacher, the control and the baseline there.

    Each model reads the images at its own size and bits: `pixels_at(contract)` gives all images of `manifest`. If the
    control or the baseline diverged, the report holds the reason. A model that is two of these is asked once. `earlier`
    is an earlier version of the test set: the report also has the scores on the images that both hold.
    """
    known: dict[str, npt.NDArray[np.float32]] = {}

    def answers(model: SavedModel) -> npt.NDArray[np.float32]:
        if model.digest not in known:
            known[model.digest] = probs_on_test(manifest, pixels_at(model.contract), model)
        return known[model.digest]

    def if_trained(model: SavedModel | None) -> npt.NDArray[np.float32] | None:
        return answers(model) if model is not None and divergence.reason(model) is None else None

    rows = manifest.rows(Split.TEST)
    labels = manifest.labels()[rows]
    probs, reference_probs = answers(final), answers(first_teacher)
    report = evaluate(
        labels,
        probs,
        class_names=manifest.label_map.names,
        reference_probs=reference_probs,
        control_probs=if_trained(control),
        baseline_probs=if_trained(baseline),
    )
    part = None
    if earlier is not None:
        part = evaluate_part(labels, probs, in_both(manifest, earlier), reference_probs=reference_probs)
    failed = {
        name: None if model is None else divergence.reason(model)
        for name, model in (("control_diverged", control), ("baseline_failed", baseline))
    }
    ids = manifest.table["image_id"].take(pa.array(rows)).to_pylist()
    wrong, every = wrong_answers(ids, labels, probs), all_errors(ids, labels, probs)
    return report.model_copy(update={**failed, "earlier": part, "wrong": wrong, "errors": every})


def in_both(manifest: Manifest, earlier: Manifest) -> npt.NDArray[np.bool_]:
    """(n,) True for the test images of `manifest` that `earlier` has in its test set, with a label of the same name."""
    rows, before = manifest.rows(Split.TEST), earlier.rows(Split.TEST)
    ids, old_ids = (each.table["image_id"].combine_chunks() for each in (manifest, earlier))
    position = pc.index_in(ids.take(pa.array(rows)), value_set=old_ids.take(pa.array(before)))
    place = np.asarray(pc.fill_null(position, -1), dtype=np.int64)
    names, old_names = (np.array([*each.label_map.names, ""], dtype=np.str_) for each in (manifest, earlier))
    old_labels = np.append(earlier.labels()[before], -1)
    return np.asarray((place >= 0) & (names[manifest.labels()[rows]] == old_names[old_labels[place]]), dtype=np.bool_)


def compare_on_test(
    manifest: Manifest,
    model: SavedModel,
    reference: SavedModel,
    *,
    pixels_at: Callable[[Contract], Pixels],
    earlier: Manifest | None = None,
) -> DetailedComparison:
    """Compare `model` with `reference` on the same test images, each at its own size: one test-set evaluation each.

    `earlier` is an earlier version of the test set: both accuracies on the images that it holds too are given as well.
    """
    labels = manifest.labels()[manifest.rows(Split.TEST)]
    probs = probs_on_test(manifest, pixels_at(model.contract), model)
    reference_probs = probs_on_test(manifest, pixels_at(reference.contract), reference)
    held = None if earlier is None else in_both(manifest, earlier)
    return compare_in_detail(labels, probs, reference_probs, class_names=manifest.label_map.names, earlier=held)
