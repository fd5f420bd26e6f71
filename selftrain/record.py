"""The record of a run: what `selftrain status` shows, and what stays with the run in ZenML and MLflow."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from selftrain.selflabel.alarms import Alarm
from selftrain.selflabel.rounds import Round, Verdict


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
