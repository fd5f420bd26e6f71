"""Receipts: the numbers and tables of one round that `dvc metrics` and `dvc plots` show."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selftrain.data.manifest import Manifest, Split
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, RejectionReason

if TYPE_CHECKING:
    import pyarrow as pa

    from selftrain.evaluate.evaluation import EvaluationReport
    from selftrain.selflabel.rounds.history import History
    from selftrain.selflabel.rounds.scores import Scores

BINS = 20
DIGITS = 6  # of a metric; more would be the machine's noise, and make every diff unreadable
MODELS = ("teacher", "student")
SCORED = ("accuracy", "macro_f1", "log_loss", "calibration_error")

Number = int | float | bool | str | None


def write_json(path: Path, facts: Mapping[str, object]) -> None:
    """Write `facts` as JSON to `path`, and make its folder. The same facts give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2, allow_nan=True) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write `rows` under `header` as CSV to `path`, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def split_counts(manifest: Manifest) -> dict[str, int]:
    """The number of images in each split."""
    return {split.value: len(manifest.rows(split)) for split in Split}


def metrics(
    scores: Sequence[Scores], labels: PseudoLabels, history: History, report: EvaluationReport, *, test_looks: int
) -> dict[str, Mapping[str, Number]]:
    """The round in numbers: teacher and student (`scores`) on validation, the pseudo-labels, the better one on test."""
    low, high = report.interval
    compared = report.comparison
    on_test: dict[str, Number] = {
        "accuracy": report.accuracy,
        "interval_low": low,
        "interval_high": high,
        "macro_f1": report.macro_f1,
        "log_loss": report.log_loss,
        "calibration_error": report.calibration_error,
        "looks": test_looks,
    }
    if compared is not None:
        on_test |= {
            "teacher_accuracy": compared.reference,
            "difference": compared.difference,
            "p_value": compared.p_value,
        }
    student: dict[str, Number] = {"kept": history.latest.kept}
    if history.latest.churn is not None:
        student |= {"churn": history.latest.churn}
    accepted = labels.count(RejectionReason.ACCEPTED)
    return {
        "validation": {
            f"{model}_{name}": round(getattr(each, name), DIGITS)
            for model, each in zip(MODELS, scores, strict=True)
            for name in SCORED
        },
        "pseudo_labels": {"pool": len(labels), "accepted": accepted, "share": round(accepted / max(1, len(labels)), 4)},
        "student": _rounded(student),
        "seconds": {model: round(each.seconds, 1) for model, each in zip(MODELS, history.rounds, strict=True)},
        "test": _rounded(on_test),
    }


def _rounded(values: Mapping[str, Number]) -> dict[str, Number]:
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in values.items()}


def curve_rows(curve: pa.Table) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a training curve, one row per evaluation on validation."""
    return curve.schema.names, [list(look.values()) for look in curve.to_pylist()]


def confusion_rows(report: EvaluationReport) -> tuple[list[str], list[list[object]]]:
    """Header and one row per test image (true and predicted class), which DVC's confusion template counts."""
    names = report.class_names
    rows: list[list[object]] = []
    for actual, counts in zip(names, report.confusion, strict=True):
        for predicted, count in zip(names, counts, strict=True):
            rows += [[actual, predicted]] * count
    return ["actual", "predicted"], rows


def confidence_rows(labels: PseudoLabels) -> tuple[list[str], list[list[object]]]:
    """Header and one row per bin of confidence (its lower edge): images accepted and rejected, and all."""
    confidence = labels.table["confidence"].to_numpy()
    accepted = labels.table["accepted"].to_numpy()
    edges = np.linspace(0, 1, BINS + 1).astype(np.float32)  # as the confidences: 0.9 falls into the bin from 0.90
    everything, _ = np.histogram(confidence, edges)
    kept, _ = np.histogram(confidence[accepted], edges)
    lower = [f"{edge:.2f}" for edge in edges[:-1]]
    columns = (lower, kept.tolist(), (everything - kept).tolist(), everything.tolist())
    rows: list[list[object]] = [list(row) for row in zip(*columns, strict=True)]
    return ["confidence", "accepted", "rejected", "images"], rows


def coverage_rows(labels: PseudoLabels) -> tuple[list[str], list[list[object]]]:
    """Header and one row per cut-off: the share of the pool above it, and its precision by held-out labels.

    `low` and `high` are the ends of the precision's interval. A cut-off that no held-out image reaches has no precision
    and no row. Without held-out labels there are no rows.
    """
    header = ["cutoff", "coverage", "images", "precision", "low", "high"]
    table = labels.curve.table().to_pylist() if labels.curve else []
    rows: list[list[object]] = [[round(row[name], DIGITS) for name in header] for row in table if row["images"]]
    return header, rows


def round_rows(history: History) -> tuple[list[str], list[list[object]]]:
    """Header and one row per model: its round, backbone and accuracy on validation."""
    rows: list[list[object]] = [
        [each.index, each.backbone, round(each.validation_accuracy, DIGITS), each.kept] for each in history.rounds
    ]
    return ["round", "backbone", "validation_accuracy", "kept"], rows
