"""Recording: writes a run's rounds and result to MLflow, and the record that `selftrain status` shows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow.csv import write_csv
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.expectations.validate import write_report
from selftrain.adapters.process import console
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.runs import LoggedRun, log_run
from selftrain.adapters.tracking.store import Tracking
from selftrain.config import Experiment
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.curve import read_curve
from selftrain.report.summary import summary
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord, run_record
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.evaluation_count import evaluations_so_far


class RunFacts(BaseModel):
    """What the steps before the loop found."""

    model_config = ConfigDict(frozen=True)

    ingested: IngestReport
    validation: ValidationReport
    dataset_version: str


@dataclass(frozen=True)
class FinishedRun:
    """A completed run: its data, how its loop ended, its test report, and what became of its model."""

    run_id: str
    manifest: Manifest
    facts: RunFacts
    outcome: Outcome
    report: EvaluationReport | DetectionReport
    registration: Registration


def log_round(
    tracking: Tracking,
    experiment: Experiment,
    finished: Round | None,
    model: SavedModel | None,
    labels: PseudoLabels | None,
    *,
    run_id: str,
) -> None:
    """Log one round to the run's MLflow run: metrics with the round as step, and charts.

    A round that was not run (None), because the loop had ended before, leaves nothing.
    """
    if finished is None or model is None:
        return
    from selftrain.report import charts
    from selftrain.report.coverage import precision_by_coverage

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / f"round_{finished.index}"
        folder.mkdir()
        charts.training_curves(read_curve(model.folder), folder / "training.png")
        if labels is not None and len(labels):
            charts.confidence_overall(labels, folder / "confidence.png")
            charts.confidence_per_class(labels, folder / "confidence_per_class.png")
        if labels is not None and labels.curve is not None:
            precision_by_coverage(labels, folder / "precision.png")
            write_csv(labels.curve.table(), folder / "precision.csv")
        log_numbers(tracking, experiment, finished, run_id=run_id, artifacts=[folder])


def log_numbers(
    tracking: Tracking, experiment: Experiment, finished: Round, *, run_id: str, artifacts: Sequence[Path] = ()
) -> None:
    """Log the metrics of one round to the run's MLflow run, with the round as step, and `artifacts`."""
    round_only = LoggedRun(
        run_id=run_id,
        name=experiment.name,
        status="RUNNING",
        config=experiment,
        rounds=[finished],
        artifacts=artifacts,
    )
    log_run(tracking, round_only)


def record_run(
    tracking: Tracking, experiment: Experiment, run: FinishedRun, *, pictures: Sequence[Path] = ()
) -> RunRecord:
    """Write `run` and more `pictures` to MLflow, end its MLflow run, print its summary, and return its record."""
    record = run_record(
        experiment,
        run.manifest,
        run.outcome,
        run.report,
        run_id=run.run_id,
        ingested=run.facts.ingested,
        test_looks=evaluations_so_far(TrackedEvaluations(tracking, run.run_id), run.manifest),
        registration=run.registration,
        dataset_version=run.facts.dataset_version,
        warnings=run.facts.validation.warnings,
    )
    _log(tracking, experiment, record, run, pictures)
    console.show(summary(record))
    return record


def _log(
    tracking: Tracking, experiment: Experiment, record: RunRecord, run: FinishedRun, pictures: Sequence[Path]
) -> None:
    from selftrain.report import charts

    numbers, tags = _metrics(record, run.report), _tags(record)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "record.json").write_text(record.model_dump_json(indent=2))
        (folder / "evaluation.json").write_text(run.report.model_dump_json(indent=2))
        if isinstance(run.report, EvaluationReport):
            charts.confusion_matrix(run.report, folder / "confusion_matrix.png")
        write_report(run.facts.validation, folder / "validation")  # the cache may have answered, without the files
        whole_run = LoggedRun(
            run_id=record.run_id,
            name=experiment.name,
            config=experiment,
            rounds=record.rounds,
            metrics={name: value for name, value in numbers.items() if value is not None},
            tags={f"selftrain.{name}": str(value) for name, value in tags.items() if value is not None},
            artifacts=[*sorted(folder.iterdir()), *pictures],
        )
        log_run(tracking, whole_run)


def _metrics(record: RunRecord, report: EvaluationReport | DetectionReport) -> dict[str, float | None]:
    if isinstance(report, DetectionReport):
        return {
            "test_map": report.map,
            **_ends("test_map", report.interval),
            "test_ap50": report.ap50,
            "test_ap75": report.ap75,
            "test_mask_map": record.mask_map,
            **_ends("test_mask_map", record.mask_interval),
            "test_mask_ap50": record.mask_ap50,
            "teacher_test_map": record.teacher_test_accuracy,
            "p_value": record.p_value,
            "control_test_map": record.control_test_accuracy,
            "control_p_value": record.control_p_value,
        }
    return {
        "test_accuracy": record.test_accuracy,
        "test_macro_f1": record.macro_f1,
        "earlier_test_accuracy": record.earlier_test_accuracy,
        "test_calibration_error": report.calibration_error,
        "test_log_loss": report.log_loss,
        "teacher_test_accuracy": record.teacher_test_accuracy,
        "p_value": record.p_value,
        "control_test_accuracy": record.control_test_accuracy,
        "control_p_value": record.control_p_value,
        "baseline_test_accuracy": record.baseline_test_accuracy,
        "baseline_p_value": record.baseline_p_value,
    }


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    """The ends of a 95 % interval, as metrics of their own."""
    low, high = (None, None) if interval is None else interval
    return {f"{name}_low": low, f"{name}_high": high}


def _tags(record: RunRecord) -> dict[str, object]:
    return {
        "verdict": record.verdict,
        "manifest_digest": record.manifest_digest,
        "dataset_version": record.dataset_version,
        "registered_version": record.registered_version,
    }
