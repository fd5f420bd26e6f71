"""The summary of a run for a console: its rounds, its results on the test set, and its model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selftrain.config import METRIC_NAMES
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord


def summary(record: RunRecord) -> RenderableType:
    """A run's rounds as a table, and its result in a few lines."""
    parts: list[RenderableType] = []
    if record.rounds:
        parts.append(rounds_table(record.rounds, metric=record.rounds_metric))
    parts += [Text(line) for line in result_lines(record)]
    return Group(*parts)


def rounds_table(rounds: Sequence[Round], *, metric: str = "accuracy") -> Table:
    """One row per model: what it was trained on, and its accuracy on validation, or another `metric`."""
    table = Table(title=None, box=None, pad_edge=False)
    for name, right in (
        ("round", False),
        ("backbone", False),
        ("labels", True),
        ("pseudo", True),
        ("threshold", False),
        ("valid." if metric == "accuracy" else f"valid. {METRIC_NAMES[metric]}", True),
        ("s", True),
        ("kept", False),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for each in rounds:
        table.add_row(
            "teacher" if each.index == 0 else str(each.index),
            each.backbone,
            str(each.labeled),
            _taken(each),
            each.threshold or "-",
            "diverged" if each.diverged else number(each.validation_accuracy, metric),
            f"{each.seconds:.0f}",
            "yes" if each.kept else "no",
        )
    return table


def number(value: float, metric: str = "accuracy") -> str:
    """A metric's value for people: percent, but for COCO's mAP.

    >>> number(0.914), number(0.2614, "map")
    ('91.4 %', '0.261')
    """
    return f"{value * 100:.1f} %" if metric == "accuracy" else f"{value:.3f}"


def _taken(finished: Round) -> str:
    """How many pseudo-labels a model was trained on, and out of how many."""
    if finished.in_training:
        return "in training"
    return f"{finished.accepted}/{finished.pool}" if finished.index else "-"


def result_lines(record: RunRecord) -> list[str]:
    """The result in words, as far as it is known."""
    lines = [f"run {record.run_id}: {record.status}" + (f", {record.verdict.value}" if record.verdict else "")]
    if record.error:
        lines.append(f"error: {record.error}")
    if record.test_accuracy is not None and record.test_interval is not None:
        low, high = (number(end, record.metric).removesuffix(" %") for end in record.test_interval)
        name = METRIC_NAMES[record.metric]
        lines.append(
            f"test {name} {number(record.test_accuracy, record.metric)} "
            f"(95 % interval {low} to {high}; "
            f"models evaluated on this test set so far: {record.test_looks})"
        )
    if record.mask_map is not None:
        lines.append(f"outlines on test: mAP {_with_ends(record.mask_map, record.mask_interval)}")
    if record.earlier_test_accuracy is not None and record.earlier_test_interval is not None:
        lines.append(_on_earlier_test(record, record.earlier_test_accuracy, record.earlier_test_interval))
    if record.teacher_test_accuracy is not None and record.p_value is not None:
        lines.append(
            f"first teacher, on the labels alone: {number(record.teacher_test_accuracy, record.metric)}; "
            f"{record.p_value_test} p = {record.p_value:.2g}"
        )
    if record.baseline_test_accuracy is not None and record.baseline_p_value is not None:
        lines.append(
            "frozen features + logistic regression, on the labels alone: "
            f"{record.baseline_test_accuracy * 100:.1f} %; "
            f"{record.baseline_p_value_test} p = {record.baseline_p_value:.2g}"
        )
    if record.control_test_accuracy is not None and record.control_p_value is not None:
        lines.append(
            "supervised control, on the labels alone for as many image-steps: "
            f"{number(record.control_test_accuracy, record.metric)}; "
            f"{record.control_p_value_test} p = {record.control_p_value:.2g}"
        )
    lines += record.findings
    if record.registered_version is not None:
        lines.append(f"registered as {record.model_uri}; {_champion(record)}: {record.promotion_reason}")
    elif record.promotion_reason:
        lines.append(record.promotion_reason)
    if record.quarantined:
        lines.append(f"{record.quarantined} files in quarantine: {record.quarantine_table}")
    if record.excluded:
        lines.append(
            f"{record.excluded} unlabelled images left out: copies or near-copies of a validation or test image"
        )
    lines += _left_out(record)
    return lines + [f"warning: {each}" for each in record.warnings]


def _with_ends(value: float, interval: tuple[float, float] | None) -> str:
    """A mAP with its interval, which older records of outlines lack.

    >>> _with_ends(0.39, (0.35, 0.431))
    '0.390 (95 % interval 0.350 to 0.431)'
    """
    return f"{value:.3f}" + (f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _on_earlier_test(record: RunRecord, accuracy: float, interval: tuple[float, float]) -> str:
    """The result on the part of a grown test set that the version before held too."""
    return (
        f"this test set is version {record.test_version}, with {record.test_images} images; on the "
        f"{record.earlier_test_images} of them that the version before held too: {accuracy * 100:.1f} % "
        f"(95 % interval {interval[0] * 100:.1f} to {interval[1] * 100:.1f})"
    )


def _left_out(record: RunRecord) -> list[str]:
    """Images that were left out although nothing is wrong with them, by reason, and those with a wrong name."""
    lines = []
    if record.excluded_groups:
        lines.append(f"{record.excluded_groups} images left out: their group has images in validation or test")
    if record.reserved:
        lines.append(f"{record.reserved} unlabelled images reserved for validation and test, until they are labelled")
    if record.disputed:
        why = "people disagree about their label, or took it back (selftrain label --list)"
        lines.append(f"{record.disputed} images left out: {why}")
    if record.misnamed:
        lines.append(f"{record.misnamed} images have the name of another format; they were read by their content")
    return lines


def _champion(record: RunRecord) -> str:
    if record.promoted:
        return "now champion"
    if record.champion_version:
        return f"champion stays version {record.champion_version}"
    return "challenger, and there is no champion yet"
