"""The record of a run: what `selftrain status` shows, and what stays with the run in ZenML and MLflow."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from selftrain.config import Experiment
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.selflabel.rounds.alarms import Alarm
from selftrain.selflabel.rounds.history import Round, Verdict
from selftrain.selflabel.rounds.outcome import Outcome, findings


class Registration(BaseModel):
    """What became of a run's model in the registry."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    registered_version: int | None = None
    champion_version: int | None = None
    promoted: bool = False
    reason: str = ""
    model_uri: str | None = None


class RunRecord(BaseModel):
    """One run, whole: shares and accuracies in 0-1, seconds of computing even where the cache answered."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    name: str
    title: str = ""
    status: str
    verdict: Verdict | None = None
    rounds: tuple[Round, ...] = ()
    test_accuracy: float | None = None
    test_interval: tuple[float, float] | None = None
    teacher_test_accuracy: float | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p_value: float | None = None
    control_test_accuracy: float | None = None
    control_difference: float | None = None
    control_interval: tuple[float, float] | None = None
    control_p_value: float | None = None
    macro_f1: float | None = None
    registered_version: int | None = None
    champion_version: int | None = None
    promoted: bool = False
    promotion_reason: str = ""
    model_uri: str | None = None
    manifest_digest: str | None = None
    dataset_version: str | None = None
    labels_used: int | None = None
    test_looks: int | None = None
    quarantined: int | None = None
    quarantine_table: str | None = None
    excluded: int | None = None
    warnings: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    error: str | None = None


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
        teacher_test_accuracy=compared.reference if compared else None,
        difference=compared.difference if compared else None,
        difference_interval=compared.difference_interval if compared else None,
        p_value=compared.p_value if compared else None,
        control_test_accuracy=control.reference if control else None,
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
