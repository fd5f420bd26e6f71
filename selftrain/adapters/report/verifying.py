"""Verifying: what a run stored is read again, and what can be computed from it is computed again."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.references import find_version
from selftrain.adapters.registry.versions import load_model_folder
from selftrain.adapters.report.gathering import Stored, stored_run
from selftrain.data.images.decode import decode
from selftrain.data.manifest import Manifest, Split
from selftrain.errors import SelftrainError
from selftrain.progress import Progress, silent
from selftrain.report.verification import Check, check, check_answers, check_numbers, unknown

if TYPE_CHECKING:
    import keras

    from selftrain.evaluate.evaluation import EvaluationReport
    from selftrain.learn.models.contract import Contract

    LoadedClassifier: TypeAlias = tuple[keras.Model, Contract]

SAMPLE, ASKED = 500, 200
"""Images whose bytes are read again, and test images that the model is asked about again."""
_SEED, _BATCH = 0, 32


def verify(run_id: str | None, *, progress: Progress = silent) -> tuple[Check, ...]:
    """Each check of the run with the id, name or prefix `run_id`; None: the latest.

    It writes nothing and counts as no look at the test set: the numbers are those that the run had already. Raises
    SourceError for an unknown run.
    """
    run = stored_run(run_id)
    return (*_checks_of_data(run, progress), *_checks_of_numbers(run), *_checks_of_model(run, progress), _python(run))


def _checks_of_data(run: Stored, progress: Progress) -> tuple[Check, ...]:
    if run.manifest is None:
        return (unknown("manifest", "the run has not stored it"),)
    said, now = run.record.manifest_digest, run.manifest.digest
    fits = check("manifest", said == now, f"sha256 {now[:12]}, the record says {(said or 'nothing')[:12]}")
    return fits, _bytes(run, run.manifest, progress)


def _bytes(run: Stored, manifest: Manifest, progress: Progress) -> Check:
    """Whether images of the store still have the bytes that their ids are digests of."""
    rows = _drawn(np.arange(len(manifest)), SAMPLE)
    what, ids = "images", manifest.table["image_id"].take(rows).to_pylist()
    shards = sorted(set(manifest.table["shard"].take(rows).to_pylist()))
    missing = [name for name in shards if not (run.dataset.store.shards / name).is_file()]
    if missing:
        return unknown(what, f"{len(missing)} of {len(shards)} shards are not on this machine, such as {missing[0]}")
    try:
        records = _records(run, manifest, rows)
    except SelftrainError as error:
        return check(what, False, str(error))
    wrong = [name for name, data in zip(ids, records, strict=True) if hashlib.sha256(data).hexdigest() != name]
    progress(len(ids), len(ids), "images read")
    named = f"; {wrong[0][:12]} is not what its id says" if wrong else ""
    right = f"{len(ids) - len(wrong)} of {len(ids)} drawn images have the bytes of their id"
    return check(what, not wrong, right + named)


def _records(run: Stored, manifest: Manifest, rows: np.ndarray) -> list[bytes]:
    shards = manifest.table["shard"].take(rows).to_pylist()
    return run.dataset.store.read(shards, np.asarray(manifest.table["index"].take(rows), np.int64))


def _drawn(rows: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` of `rows`, the same ones each time."""
    return np.sort(np.random.default_rng(_SEED).permutation(rows)[:most])


def _checks_of_numbers(run: Stored) -> tuple[Check, ...]:
    if run.record.metric != "accuracy":
        why = "a detector's mAP cannot be computed from what a run stores of it"
        return (unknown("test numbers", why),)
    if run.evaluation is None:
        return (unknown("test numbers", "the run has not stored an evaluation on test"),)
    return check_numbers(run.record, run.evaluation)


def _checks_of_model(run: Stored, progress: Progress) -> tuple[Check, ...]:
    """The registered model: whether its files are those that were registered, and whether it answers as it did."""
    uri = run.record.model_uri
    if uri is None:
        return (unknown("model", "the run registered none"),)
    try:
        opened, version = find_version(uri, workspace=run.dataset.workspace.root)
    except SelftrainError as error:
        return (check("model", False, str(error)),)
    with tempfile.TemporaryDirectory() as scratch:  # the registry's own files, not a copy that is kept of them
        try:
            folder = load_model_folder(opened.tracking, version, cache=Path(scratch))
            start_keras()
            model, digest = _opened(folder)
        except SelftrainError as error:
            return (check("model", False, str(error)),)
        said = version.model_digest or digest
        fits = check("model", said == digest, f"{uri}: sha256 {digest[:12]}, registered as {said[:12]}")
        if model is None or run.manifest is None or run.evaluation is None:
            return (fits,)
        try:
            return fits, _answers(run, run.manifest, run.evaluation, model, progress)
        except SelftrainError as error:
            return fits, unknown("the model's answers", str(error))


def _opened(folder: Path) -> tuple[LoadedClassifier | None, str]:
    """The classifier in `folder`, with its contract, and the sha256 of its weights; a detector is checked alone."""
    from selftrain.learn.detection.saving import SavedDetector, holds_detector
    from selftrain.learn.models.loading import load

    if holds_detector(folder):
        saved = SavedDetector.read(folder)
        saved.open()
        return None, saved.contract.weights_sha256
    model, contract = load(folder)
    return (model, contract), contract.weights_sha256


def _answers(
    run: Stored, manifest: Manifest, found: EvaluationReport, loaded: LoadedClassifier, progress: Progress
) -> Check:
    model, contract = loaded
    rows = _drawn(manifest.rows(Split.TEST), ASKED)
    ids, labels = (manifest.table[name].take(rows).to_pylist() for name in ("image_id", "label"))
    encoded = _records(run, manifest, rows)
    images = np.stack([decode(data, contract.image_size, lenient=True, bits=contract.bits) for data in encoded])
    logits = np.asarray(model.predict(images, batch_size=_BATCH, verbose=0))
    progress(len(rows), len(rows), "test images asked about")
    answered = dict(zip(ids, logits.argmax(axis=1).tolist(), strict=True))
    return check_answers(found, dict(zip(ids, labels, strict=True)), answered)


def _python(run: Stored) -> Check:
    said, now = run.python, platform.python_version()
    if not said:
        return unknown("Python", "the run has not stored its version")
    return check("Python", said == now, f"{now} here, {said} in the run")
