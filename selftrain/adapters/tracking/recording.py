"""Recording: a run's rounds and its result, into MLflow and into the record that `selftrain status` shows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pyarrow.csv import write_csv
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.expectations.validate import write_report
from selftrain.adapters.process import console
from selftrain.adapters.tracking.looks import counted_looks
from selftrain.adapters.tracking.runs import LoggedRun, log_run
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.curve import read_curve
from selftrain.report.summary import summary
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord, run_record
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


class RunFacts(BaseModel):
    """What the steps before the loop found."""

    model_config = ConfigDict(frozen=True)

    ingested: IngestReport
    validation: ValidationReport
    dataset_version: str


def log_round(
    experiment: Experiment, finished: Round, model: SavedModel, labels: PseudoLabels | None, *, run_id: str
) -> None:
    """Put one round into the run's MLflow run: metrics with the round as step, curves and confidence charts."""
    from selftrain.report import charts
    from selftrain.report.coverage import precision_by_coverage

    tracking = open_tracking(open_dataset(experiment.place).workspace.root)
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
        log_run(
            tracking,
            LoggedRun(
                run_id=run_id,
                name=experiment.name,
                status="RUNNING",
                config=experiment,
                rounds=[finished],
                artifacts=[folder],
            ),
        )


def record_run(
    experiment: Experiment,
    manifest: Manifest,
    facts: RunFacts,
    ended: Outcome,
    report: EvaluationReport,
    registration: Registration,
    *,
    run_id: str,
) -> RunRecord:
    """The record of a run that went through, also written to MLflow, whose run it ends."""
    done = run_record(
        experiment,
        manifest,
        ended,
        report,
        run_id=run_id,
        ingested=facts.ingested,
        test_looks=counted_looks(manifest, place=experiment.place),
        registration=registration,
        dataset_version=facts.dataset_version,
        warnings=facts.validation.warnings,
    )
    _log(experiment, done, report, facts.validation)
    console.show(summary(done))
    return done


def _log(experiment: Experiment, done: RunRecord, report: EvaluationReport, validation: ValidationReport) -> None:
    from selftrain.report import charts

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "record.json").write_text(done.model_dump_json(indent=2))
        (folder / "evaluation.json").write_text(report.model_dump_json(indent=2))
        charts.confusion_matrix(report, folder / "confusion_matrix.png")
        write_report(validation, folder / "validation")  # from the report itself: the cache may have answered
        numbers = {
            "test_accuracy": done.test_accuracy,
            "test_macro_f1": done.macro_f1,
            "test_calibration_error": report.calibration_error,
            "test_log_loss": report.log_loss,
            "teacher_test_accuracy": done.teacher_test_accuracy,
            "p_value": done.p_value,
            "control_test_accuracy": done.control_test_accuracy,
            "control_p_value": done.control_p_value,
        }
        tags = {
            "verdict": done.verdict,
            "manifest_digest": done.manifest_digest,
            "dataset_version": done.dataset_version,
            "registered_version": done.registered_version,
        }
        log_run(
            open_tracking(open_dataset(experiment.place).workspace.root),
            LoggedRun(
                run_id=done.run_id,
                name=experiment.name,
                config=experiment,
                rounds=done.rounds,
                metrics={name: value for name, value in numbers.items() if value is not None},
                tags={f"selftrain.{name}": str(value) for name, value in tags.items() if value is not None},
                artifacts=sorted(folder.iterdir()),
            ),
        )
