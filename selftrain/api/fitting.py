"""Fitting: the whole loop in one call, without ZenML, MLflow and DVC, on folders, arrays or an Experiment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.process.result_key import result_key
from selftrain.adapters.registry.starting_models import described_weights, starting_teacher, teacher_backbone
from selftrain.api.fit_images import FitImages, open_source_of
from selftrain.config import Experiment, parse
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.ingest.report import report_ingested
from selftrain.data.inputs.spool import SpooledImages
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import ImageSource
from selftrain.data.store import decoded_files, feature_files
from selftrain.data.store.dataset import Dataset, open_dataset
from selftrain.errors import ConfigError, SourceError
from selftrain.files.places import check_out, user_path
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.checkpoint import Checkpoints, prune
from selftrain.progress import Progress, noting
from selftrain.retraining.label_entry import labelled_listing
from selftrain.selflabel.loop import LoopResult, evaluate_on_test, run_loop
from selftrain.selflabel.rounds.outcome import outcome
from selftrain.selflabel.rounds.record import RunRecord, run_record
from selftrain.selflabel.rounds.start import check_start
from selftrain.selflabel.teaching.evaluation_count import EvaluationFiles, count_evaluations
from selftrain.selflabel.teaching.labeled_sample import labeled_sample
from selftrain.selflabel.teaching.task import TaskData

MODEL, RECORD, LABELS, EVALUATION, EXPERIMENT = (
    "model",
    "record.json",
    "pseudo_labels.parquet",
    "evaluation.json",
    "experiment.json",
)


@dataclass(frozen=True)
class FitResult:
    """A finished fit: its record, the folder with its results, and in it the folder of the best model."""

    record: RunRecord
    out: Path

    @property
    def model(self) -> Path:
        """The best model's folder, for `selftrain predict --model` and `selftrain.autolabel(model=...)`."""
        return self.out / MODEL


def fit(
    images: FitImages | None,
    base: Experiment | None,
    *,
    changes: Mapping[str, Any],
    workspace: Path,
    out: Path,
    progress: Progress,
) -> FitResult:
    """Run the loop on `images` (None: the source of `base`) and write model, record and pseudo-labels to `out`.

    `changes` override the settings of `base`. If `base` is None, they override those that `selftrain init` would choose
    for the images. Models stay in the workspace's cache, so a fit that is repeated or was killed does not train them
    again.

    Raises ConfigError where `out` is not empty, cannot be written or holds the workspace. Raises SourceError where no
    image is left to label. The errors of the loop pass through.
    """
    _refuse_filled(out)
    prepared = _prepare(images, base, changes, workspace, out, noting(progress, "ingest"))
    e, dataset, manifest = prepared.e, prepared.dataset, prepared.ingested.manifest
    run_id, loop = _run(e, manifest, dataset, progress)
    evaluations = _count_evaluations(loop, manifest, dataset)
    report = evaluate_on_test(loop)
    record = run_record(
        e,
        manifest,
        outcome(e.gate, loop.history),
        report,
        run_id=run_id,
        ingested=report_ingested(prepared.ingested, dataset.store.quarantine_path),
        test_looks=evaluations,
        warnings=prepared.warnings,
    )
    texts = {RECORD: record.model_dump_json(indent=2), EVALUATION: report.model_dump_json(indent=2)}
    texts[EXPERIMENT] = e.model_dump_json(indent=2, exclude={"source"} if prepared.spooled else None)
    _leave(out, loop, texts)
    return FitResult(record, out)


@dataclass(frozen=True)
class _Prepared:
    """The settings of a fit and its ingested images; `spooled` images came as arrays and have no source to name."""

    e: Experiment
    dataset: Dataset
    ingested: IngestResult
    spooled: bool
    warnings: tuple[str, ...]


def _prepare(
    images: FitImages | None,
    base: Experiment | None,
    changes: Mapping[str, Any],
    workspace: Path,
    out: Path,
    progress: Progress,
) -> _Prepared:
    base = _at_home(base) if base else None
    check_out(out, workspace=Path(base.workspace) if base else workspace)
    with open_source_of(images, base, workspace) as (source, e):
        e = _at_home(with_changes(e, changes))
        check_out(out, workspace=Path(e.workspace))
        check_start(e, teacher_backbone(e, Workspace(Path(e.workspace))))
        dataset = open_dataset(e.place, e.machine)
        _prune(dataset)
        start_keras()
        ingested = _ingest(source, e, dataset, progress)
    if isinstance(source, SpooledImages):
        return _Prepared(e, dataset, ingested, spooled=True, warnings=source.warnings())
    return _Prepared(e, dataset, ingested, spooled=False, warnings=())


def _run(e: Experiment, manifest: Manifest, dataset: Dataset, progress: Progress) -> tuple[str, LoopResult]:
    """The key of the loop and its result."""
    first_teacher = _starting_teacher(e, manifest, dataset)
    key = run_key(e, manifest, first_teacher)
    loop = run_loop(
        e,
        manifest,
        dataset,
        folder=dataset.workspace.models / key,
        checkpoints=Checkpoints(dataset.checkpoints(code_digest.train()), e.machine.checkpoint_s),
        first_teacher=first_teacher,
        progress=progress,
    )
    return key, loop


def _count_evaluations(loop: LoopResult, manifest: Manifest, dataset: Dataset) -> int:
    """Count the models that are about to be evaluated on test; returns how many have ever been counted."""
    log = EvaluationFiles(dataset.workspace.root / "looks")
    return count_evaluations(log, manifest, (loop.final, loop.models[0], loop.control, loop.baseline))


def with_changes(e: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """`e` with `changes`, whose sections are mappings or sections of selftrain.config. Raises ConfigError."""
    return parse(_merged(e.model_dump(mode="json"), changes)) if changes else e


def run_key(e: Experiment, manifest: Manifest, first_teacher: SavedModel | None) -> str:
    """The key of a loop: a digest of everything that decides its models.

    These are the settings, the images, the weights files, the code, and a first teacher that was not trained here.
    """
    files = [str(described_weights(recipe)) for recipe in (e.teacher, e.student)]
    teacher = first_teacher.digest if first_teacher else "trained"
    code = code_digest.digest(["selftrain.selflabel.loop", "selftrain.data.store.dataset"])
    return f"fit-{result_key(e, manifest.digest, *files, teacher, code, leave_out={'source'})[:16]}"


def _at_home(e: Experiment) -> Experiment:
    """`e` with the user's home folder in place of a leading ~ in its workspace."""
    return e.model_copy(update={"workspace": str(user_path(e.workspace))})


def _prune(dataset: Dataset) -> None:
    """Remove old checkpoints, decoded images and features, so that the workspace does not grow with every fit."""
    prune(dataset.workspace.checkpoints)
    decoded_files.prune(dataset.workspace.decoded_cache, budget_mb=dataset.machine.decoded_mb)
    feature_files.prune(dataset.workspace.features_cache, budget_bytes=dataset.machine.features_mb * 1_000_000)


def _ingest(source: ImageSource, e: Experiment, dataset: Dataset, progress: Progress) -> IngestResult:
    """The ingested images. Raises SourceError where a round would have nothing to label."""
    ingested = ingest(
        source,
        labelled_listing(source.scan(), dataset.store),
        dataset.store,
        settings=e.ingest,
        splitting=e.splitting,
        workers=e.machine.workers,
        shard_mb=e.machine.shard_mb,
        progress=progress,
    )
    if e.gate.max_rounds and not ingested.manifest.rows(Split.UNLABELED).size:
        raise SourceError(
            "unlabeled: no image is left to learn from; those given are copies of labelled, validation or test images "
            f"or cannot be used, see {str(dataset.store.quarantine_path)!r}. Give others, or train on "
            'the labels alone with settings={"gate": {"min_rounds": 0, "max_rounds": 0}}'
        )
    return ingested


def _starting_teacher(e: Experiment, manifest: Manifest, dataset: Dataset) -> SavedModel | None:
    """The model that `teacher.start` names; None: the first teacher is trained."""
    if e.teacher.start == "train":
        return None
    names = manifest.label_map.names
    return starting_teacher(
        e.teacher,
        workspace=dataset.workspace,
        settings=e.registry,
        class_names=names,
        image_size=e.image_size,
        labeled=partial(labeled_sample, TaskData(manifest.labeled(), dataset)),
    )


def _leave(out: Path, loop: LoopResult, texts: Mapping[str, str]) -> None:
    """Fill `out` whole or not at all. Raises ConfigError where another call has filled it meanwhile."""
    place = Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
        part = Path(scratch) / "new"
        part.mkdir()
        shutil.copytree(loop.final.folder, part / MODEL)
        if loop.labels:
            loop.labels[-1].write(part / LABELS)
        for name, content in texts.items():
            (part / name).write_text(content + "\n", encoding="utf-8")
        _refuse_filled(out)
        part.rename(place)  # this also replaces an empty folder


def _refuse_filled(out: Path) -> None:
    """Raise ConfigError where `out` is a file, or a folder that is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out={str(out)!r} is not empty and was left as it is; give another folder")


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        change = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        before = merged.get(key)
        section = isinstance(change, Mapping) and isinstance(before, dict) and "kind" not in change
        merged[key] = _merged(before, change) if section and isinstance(before, dict) else change
    return merged
