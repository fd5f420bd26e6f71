"""The record of a run, for `selftrain status`, ZenML and MLflow."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from selftrain.config import Experiment, Metric
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import Comparison, EvaluationReport
from selftrain.selflabel.rounds.alarms import Alarm
from selftrain.selflabel.rounds.history import Round, Verdict
from selftrain.selflabel.rounds.outcome import Outcome, findings


class Registration(BaseModel):
    """What the registry did with a run's model."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    registered_version: int | None = None
    champion_version: int | None = None
    promoted: bool = False
    reason: str = ""
    model_uri: str | None = None


class RunRecord(BaseModel):
    """One run. Shares and accuracies are in 0-1; seconds are those of the training, even if a model was cached.

    `metric` is what the fields named accuracy hold: those of a detector hold `map`, COCO's mAP.
    `validated_by` is what the rounds' validation accuracy holds: of a detector the gate's metric; None means `metric`.
    The fields named mask hold the numbers of a detector's outlines on test.
    `p_value_test` and the like name the tests of the p-values. Older records lack them: McNemar's.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    name: str
    title: str = ""
    status: str
    verdict: Verdict | None = None
    rounds: tuple[Round, ...] = ()
    metric: Literal["accuracy", "map"] = "accuracy"
    validated_by: Literal["accuracy", "map", "ap50"] | None = None
    test_accuracy: float | None = None
    test_interval: tuple[float, float] | None = None
    teacher_test_accuracy: float | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p_value: float | None = None
    p_value_test: str = "McNemar"
    control_test_accuracy: float | None = None
    control_difference: float | None = None
    control_interval: tuple[float, float] | None = None
    control_p_value: float | None = None
    control_p_value_test: str = "McNemar"
    baseline_test_accuracy: float | None = None
    baseline_difference: float | None = None
    baseline_interval: tuple[float, float] | None = None
    baseline_p_value: float | None = None
    baseline_p_value_test: str = "McNemar"
    macro_f1: float | None = None
    mask_map: float | None = None
    mask_ap50: float | None = None
    mask_interval: tuple[float, float] | None = None
    registered_version: int | None = None
    champion_version: int | None = None
    promoted: bool = False
    promotion_reason: str = ""
    model_uri: str | None = None
    manifest_digest: str | None = None
    dataset_version: str | None = None
    labels_used: int | None = None
    test_looks: int | None = None
    test_images: int | None = None
    test_version: int | None = None
    earlier_test_images: int | None = None
    earlier_test_accuracy: float | None = None
    earlier_test_interval: tuple[float, float] | None = None
    quarantined: int | None = None
    quarantine_table: str | None = None
    excluded: int | None = None
    excluded_groups: int | None = None
    reserved: int | None = None
    disputed: int | None = None
    misnamed: int | None = None
    warnings: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    error: str | None = None

    @property
    def rounds_metric(self) -> Literal["accuracy", "map", "ap50"]:
        """What the validation accuracy of the rounds is."""
        return self.validated_by or self.metric


def validated_by(metric: Metric) -> Literal["accuracy", "map", "ap50"]:
    """What the rounds' validation accuracy holds, if the gate goes by `metric`.

    >>> validated_by("macro_f1"), validated_by("ap50")
    ('accuracy', 'ap50')
    """
    return metric if metric in ("map", "ap50") else "accuracy"


def run_record(
    e: Experiment,
    manifest: Manifest,
    outcome: Outcome,
    report: EvaluationReport | DetectionReport,
    *,
    run_id: str,
    ingested: IngestReport,
    test_looks: int,
    registration: Registration | None = None,
    dataset_version: str | None = None,
    warnings: tuple[str, ...] = (),
) -> RunRecord:
    """The record of a completed run. Without a `registration`, the model was not offered to a registry."""
    history, teacher_start = outcome.history, None if e.teacher.start == "train" else e.teacher.start
    return RunRecord(
        run_id=run_id,
        name=e.name,
        title=e.title,
        status="completed",
        validated_by=validated_by(e.gate.metric),
        verdict=outcome.verdict,
        rounds=history.rounds,
        manifest_digest=manifest.digest,
        dataset_version=dataset_version,
        labels_used=manifest.human_labels_used(),
        test_looks=test_looks,
        test_version=ingested.test_version,
        quarantined=ingested.quarantined,
        quarantine_table=ingested.quarantine_table,
        excluded=ingested.excluded,
        excluded_groups=ingested.excluded_groups,
        reserved=ingested.reserved,
        disputed=ingested.disputed,
        misnamed=ingested.misnamed,
        warnings=warnings,
        alarms=history.alarms,
        findings=(outcome.explanation, *findings(history, report, teacher_start=teacher_start)),
        **_test_fields(report),
        **_registry_fields(registration or Registration(model_name=e.name)),
    )


def _test_fields(report: EvaluationReport | DetectionReport) -> dict[str, Any]:
    """The fields of a record that say how good the final model is on test."""
    fields: dict[str, Any] = {"test_interval": report.interval, "test_images": report.images}
    match report:
        case DetectionReport():
            fields |= {"metric": "map", "test_accuracy": report.map, **_mask_fields(report)}
        case EvaluationReport():
            fields |= {"test_accuracy": report.accuracy, "macro_f1": report.macro_f1}
    if isinstance(report, EvaluationReport) and report.earlier is not None:
        fields |= {
            "earlier_test_images": report.earlier.images,
            "earlier_test_accuracy": report.earlier.accuracy,
            "earlier_test_interval": report.earlier.interval,
        }
    if report.comparison is not None:
        fields |= {
            "teacher_test_accuracy": report.comparison.reference,
            "difference": report.comparison.difference,
            "difference_interval": report.comparison.difference_interval,
            "p_value": report.comparison.p_value,
            "p_value_test": report.comparison.test,
        }
    return fields | _compared("control", report.control) | _compared("baseline", report.baseline)


def _mask_fields(report: DetectionReport) -> dict[str, Any]:
    masks = report.masks
    if masks is None:
        return {}
    return {"mask_map": masks.map, "mask_ap50": masks.ap50, "mask_interval": masks.interval}


def _compared(name: str, comparison: Comparison | None) -> dict[str, Any]:
    """The fields of a record about the `comparison` with the model called `name`."""
    if comparison is None:
        return {}
    return {
        f"{name}_test_accuracy": comparison.reference,
        f"{name}_difference": comparison.difference,
        f"{name}_interval": comparison.difference_interval,
        f"{name}_p_value": comparison.p_value,
        f"{name}_p_value_test": comparison.test,
    }


def _registry_fields(registration: Registration) -> dict[str, Any]:
    """The fields of a record that say what became of the model in the registry."""
    return {
        "registered_version": registration.registered_version,
        "champion_version": registration.champion_version,
        "promoted": registration.promoted,
        "promotion_reason": registration.reason,
        "model_uri": registration.model_uri,
    }
