"""One round as DVC stages: `python -m pipelines.one_round STAGE`, the commands of dvc.yaml.

Each stage reads its settings and the results of earlier stages under .round/, and leaves its own results there. It
calls the same functions as the ZenML steps. See docs/dvc.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.snapshots.receipts import split_counts, write_csv, write_json
from selftrain.adapters.snapshots.round_settings import (
    EvaluateSettings,
    IngestSettings,
    PseudoLabelSettings,
    RoundPlace,
    StageSettings,
    StudentSettings,
    TeacherSettings,
    ValidateSettings,
    resolve_settings,
    stage_settings,
)
from selftrain.config import Experiment, Place, Recipe
from selftrain.data.manifest import Manifest
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import SelftrainError, TrainingDivergedError
from selftrain.learn.training.checkpoint import Checkpoints, prune
from selftrain.progress import Progress
from selftrain.selflabel.rounds.plan import round_plan
from selftrain.selflabel.teaching.task import Destination, TaskData, label_pool, task_of

ROUND = Path(".round")
SETTINGS = ROUND / "settings"
PLOTS = ROUND / "plots"
EVALUATED_BY = "dvc"
"""Stands for a run's id where test-set evaluations are counted."""

T = TypeVar("T", bound=StageSettings)


def configure() -> None:
    """Write one settings file per stage, with the digest of its code, from params.yaml, its config and the defaults."""
    experiment = resolve_settings(Path("params.yaml"))
    SETTINGS.mkdir(parents=True, exist_ok=True)
    for name, settings in stage_settings(experiment).items():
        (SETTINGS / f"{name}.json").write_text(settings.model_dump_json(indent=2) + "\n")
    where = RoundPlace(place=experiment.place, machine=experiment.machine, registry=experiment.registry)
    (SETTINGS / "place.json").write_text(where.model_dump_json(indent=2) + "\n")
    (SETTINGS / "experiment.json").write_text(experiment.model_dump_json(indent=2) + "\n")


def scan() -> None:
    """Write digests of what DVC does not track here: source files, image store, starting and withdrawn models."""
    from selftrain.adapters.registry.recall_log import withdrawn
    from selftrain.adapters.registry.starting_models import described_start, teacher_backbone
    from selftrain.retraining.label_entry import labelled_listing
    from selftrain.selflabel.rounds.start import check_start

    place, teacher = _place(), _settings("teacher", TeacherSettings).plan.recipe
    experiment = Experiment.model_validate_json((SETTINGS / "experiment.json").read_text())
    check_start(experiment, teacher_backbone(experiment, open_dataset(place).workspace))
    store = open_dataset(place).store
    listing = labelled_listing(_source().scan(), store)
    facts = {"listing": listing.digest, "images": len(listing), "store": store.id()}
    write_json(ROUND / "scan.json", facts)
    registry = _where().registry
    start = described_start(teacher, workspace=open_dataset(place).workspace, settings=registry)
    write_json(ROUND / "brought" / "teacher.json", {"start": start, "weights": _weights(teacher)})
    student = _settings("student", StudentSettings).student
    write_json(ROUND / "brought" / "student.json", {"weights": _weights(student)})
    write_json(ROUND / "brought" / "withdrawn.json", {"withdrawn": withdrawn(place)})


def ingest() -> None:
    """Ingest the source files into the workspace's image store; write its DVC version and the manifest."""
    from selftrain.adapters.snapshots.repository import snapshot
    from selftrain.data.ingest.ingest import ingest as ingest_images
    from selftrain.data.ingest.report import report_ingested
    from selftrain.retraining.label_entry import labelled_listing

    settings, place, machine = _settings("ingest", IngestSettings), _place(), _where().machine
    source, store = _source(), open_dataset(place).store
    with progress("ingest") as show:
        done = ingest_images(
            source,
            labelled_listing(source.scan(), store),
            store,
            settings=settings.ingest,
            splitting=settings.splitting,
            workers=machine.workers,
            shard_mb=machine.shard_mb,
            progress=show,
        )
    done.manifest.write(ROUND / "manifest.parquet")
    shutil.copyfile(store.quarantine_path, ROUND / "quarantine.csv")
    report = report_ingested(done, store.quarantine_path).model_dump(
        exclude={"quarantine_table", "files_read", "earlier_test"}
    )
    manifest = done.manifest
    counts = {"manifest_digest": manifest.digest, "labels_used": manifest.human_labels_used(), **split_counts(manifest)}
    write_json(ROUND / "ingest.json", {**counts, **report})
    write_json(ROUND / "dataset.json", snapshot(open_dataset(place).workspace, place.dataset).model_dump())


def validate() -> None:
    """Check the manifest against the expectations; write a page, the details, and a receipt that training needs."""
    import json

    from selftrain.adapters.expectations import validate as expectations

    checks, manifest = _settings("validate", ValidateSettings).checks, _manifest()
    share = float(json.loads((ROUND / "ingest.json").read_text())["quarantine_share"])
    report = expectations.validate(manifest, share, checks, ROUND / "validation", open_dataset(_place()).store)
    expectations.require_passed(report)
    write_json(ROUND / "validated.json", {"manifest_digest": manifest.digest})


def teacher() -> None:
    """Train the first teacher on human labels, or copy the model that `teacher.start` names."""
    start_keras()
    from selftrain.adapters.registry.starting_models import starting_teacher
    from selftrain.selflabel.rounds.start import check_teacher
    from selftrain.selflabel.selection.thresholds import check_classes
    from selftrain.selflabel.teaching.labeled_sample import labeled_sample

    plan, place, manifest = _settings("teacher", TeacherSettings).plan, _place(), _manifest()
    check_classes(_settings("pseudo_label", PseudoLabelSettings).pseudo_label.threshold, manifest.label_map.names)
    if plan.recipe.start != "train":
        model = starting_teacher(
            plan.recipe,
            workspace=open_dataset(place).workspace,
            settings=_where().registry,
            class_names=manifest.label_map.names,
            image_size=plan.image_size,
            labeled=partial(labeled_sample, _data(manifest.labeled())),
        )
        scores = task_of(plan.task).score(_data(manifest), model)
        check_teacher(plan.recipe.start, scores, manifest)
        shutil.copytree(model.folder, ROUND / "teacher")
        return
    with progress("teacher") as show:
        task_of(plan.task).train_teacher(_data(manifest), plan, into=_into("teacher", show))


def pseudo_label() -> None:
    """Label the pool with the teacher; write the labels, their confidences, and precision by coverage."""
    start_keras()
    from selftrain.adapters.registry.recall_log import refuse_withdrawn
    from selftrain.adapters.snapshots.receipts import confidence_rows, coverage_rows
    from selftrain.learn.models.contract import SavedModel

    stage, model = _settings("pseudo_label", PseudoLabelSettings), SavedModel.read(ROUND / "teacher")
    refuse_withdrawn(model, _place())
    task, data, settings = task_of(stage.task), _data(_manifest()), stage.pseudo_label
    with progress("pseudo-label") as show:
        labels = label_pool(task, data, model, settings=settings, round_index=1, progress=show)
    labels.write(ROUND / "pseudo_labels.parquet")
    write_csv(PLOTS / "confidence.csv", *confidence_rows(labels))
    write_csv(PLOTS / "coverage.csv", *coverage_rows(labels))


def student() -> None:
    """Train the student on human and pseudo-labels."""
    start_keras()
    from selftrain.learn.models import divergence
    from selftrain.learn.models.contract import SavedModel
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

    settings, teacher = _settings("student", StudentSettings), SavedModel.read(ROUND / "teacher")
    labels = PseudoLabels.read(ROUND / "pseudo_labels.parquet")
    plan = round_plan(
        settings.student,
        task=settings.task,
        index=1,
        teacher=0,
        taught_by=teacher.contract.backbone,
        image_size=settings.image_size,
        seed=settings.seed,
    )
    with progress("student") as show:
        into = _into("student", show)
        trained = task_of(plan.task).train_student(_data(_manifest()), labels, plan, teacher=teacher, into=into)
    if (reason := divergence.reason(trained)) is not None:
        raise TrainingDivergedError(reason)  # no later round can do better


def evaluate() -> None:
    """Evaluate teacher and student on validation, and the better one on test; write all metrics and plots."""
    start_keras()
    from selftrain.adapters.snapshots import receipts
    from selftrain.adapters.tracking.evaluations import TrackedEvaluations
    from selftrain.adapters.tracking.store import open_tracking
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.training.curve import read_curve
    from selftrain.selflabel.rounds.history import History
    from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards, with_round_of
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
    from selftrain.selflabel.teaching.evaluation_count import count_evaluations

    settings, place, manifest = _settings("evaluate", EvaluateSettings), _place(), _manifest()
    gate, guards, method = settings.gate, settings.guards, settings.method
    labels = PseudoLabels.read(ROUND / "pseudo_labels.parquet")
    models = [SavedModel.read(ROUND / name) for name in receipts.MODELS]
    task, data = task_of(settings.task), _data(manifest)
    scores = [task.score(data, model) for model in models]
    history = History().with_round(teacher_round(manifest, models[0], scores[0], gate))
    history = with_guards(history, guards, manifest, labels, method=method)
    latest = student_round(1, manifest, labels, models[1], scores[1], gate, method=method)
    history = with_round_of(history, guards, gate, latest)
    final = models[history.best.index]
    log = TrackedEvaluations(open_tracking(open_dataset(place).workspace.root), EVALUATED_BY)
    looks = count_evaluations(log, manifest, (final, models[0]))
    report = task.evaluate_on_test(data, final, models[0], None)
    write_json(ROUND / "metrics.json", receipts.metrics(scores, labels, history, report, test_looks=looks))
    (ROUND / "evaluation.json").write_text(report.model_dump_json(indent=2) + "\n")
    for name, model in zip(receipts.MODELS, models, strict=True):
        write_csv(PLOTS / f"{name}_training.csv", *receipts.curve_rows(read_curve(model.folder)))
    write_csv(PLOTS / "confusion.csv", *receipts.confusion_rows(report))
    write_csv(PLOTS / "rounds.csv", *receipts.round_rows(history))


STAGES: dict[str, Callable[[], None]] = {
    stage.__name__: stage for stage in (configure, scan, ingest, validate, teacher, pseudo_label, student, evaluate)
}


def _settings(stage: str, kind: type[T]) -> T:
    return kind.model_validate_json((SETTINGS / f"{stage}.json").read_text())


def _where() -> RoundPlace:
    return RoundPlace.model_validate_json((SETTINGS / "place.json").read_text())


def _place() -> Place:
    """The place of the data. DVC runs queued experiments in a copy; they share the original's workspace."""
    place = _where().place
    root = Path(os.environ.get("DVC_ROOT", "."))
    if root.resolve() == Path.cwd().resolve():
        return place
    return place.model_copy(update={"workspace": str(root / place.workspace)})


def _source() -> ImageSource:
    """The images of the source, and those that were taken in from the inbox."""
    from selftrain.adapters.process.secrets import resolve
    from selftrain.retraining.collecting import open_source_with_inbox

    settings = _settings("ingest", IngestSettings)
    inbox = Experiment.model_validate_json((SETTINGS / "experiment.json").read_text()).inbox
    return open_source_with_inbox(settings.source, _place(), settings.ingest, inbox, resolve=resolve)


def _manifest() -> Manifest:
    return Manifest.read(ROUND / "manifest.parquet")


def _data(manifest: Manifest) -> TaskData:
    return TaskData(manifest, open_dataset(_place(), _where().machine))


def _into(name: str, show: Progress) -> Destination:
    """Where the model `name` goes. Its checkpoints are apart from ZenML's runs, which may train the same model now."""
    folder = open_dataset(_place()).workspace.checkpoints
    prune(folder)
    checkpoints = Checkpoints(folder / "dvc" / code_digest.train()[:12], _where().machine.checkpoint_s)
    return Destination(ROUND / name, checkpoints, show, _where().machine.devices)


def _weights(recipe: Recipe) -> str | None:
    from selftrain.adapters.registry.starting_models import described_weights

    return described_weights(recipe)


def main() -> None:
    """Run one stage; an expected error is one line with its own exit code, never a traceback."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.one_round", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    stage = STAGES[parser.parse_args().stage]
    prepare_process()
    try:
        stage()
    except SelftrainError as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
