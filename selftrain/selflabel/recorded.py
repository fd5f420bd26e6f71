"""Recorded: a loop that came to its end as the record that `selftrain status` shows."""

from __future__ import annotations

from selftrain.config import Experiment
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.record import Registration, RunRecord
from selftrain.selflabel.finished import Outcome, findings


def run_record(
    e: Experiment,
    manifest: Manifest,
    ended: Outcome,
    report: EvaluationReport,
    *,
    run_id: str,
    ingested: IngestReport,
    test_looks: int,
    registration: Registration | None = None,
    dataset_version: str | None = None,
    warnings: tuple[str, ...] = (),
) -> RunRecord:
    """The record of a completed run; without a `registration` the model was not offered to a registry."""
    compared, control = report.comparison, report.control
    settled = registration or Registration(model_name=e.name)
    brought = None if e.teacher.start == "train" else e.teacher.start
    return RunRecord(
        run_id=run_id,
        name=e.name,
        title=e.title,
        status="completed",
        verdict=ended.verdict,
        rounds=ended.history.rounds,
        test_accuracy=report.accuracy,
        test_interval=report.interval,
        teacher_test_accuracy=compared.reference_accuracy if compared else None,
        difference=compared.difference if compared else None,
        difference_interval=compared.difference_interval if compared else None,
        p_value=compared.p_value if compared else None,
        control_test_accuracy=control.reference_accuracy if control else None,
        control_difference=control.difference if control else None,
        control_interval=control.difference_interval if control else None,
        control_p_value=control.p_value if control else None,
        macro_f1=report.macro_f1,
        registered_version=settled.registered_version,
        champion_version=settled.champion_version,
        promoted=settled.promoted,
        promotion_reason=settled.reason,
        model_uri=settled.model_uri,
        manifest_digest=manifest.digest,
        dataset_version=dataset_version,
        labels_used=manifest.human_labels_used(),
        test_looks=test_looks,
        quarantined=ingested.quarantined,
        quarantine_table=ingested.quarantine_table,
        excluded=ingested.excluded,
        warnings=warnings,
        alarms=ended.history.alarms,
        findings=(ended.explanation, *findings(ended.history, report, brought=brought)),
    )
