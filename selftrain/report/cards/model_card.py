"""The model card: what a model is for, how good it is, and how it was made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.evaluate.evaluation import ClassScores, Comparison, ComparisonResult, EvaluationReport
from selftrain.evaluate.statistics.intervals import Interval
from selftrain.report.cards.head import Result, TrainedOn, data_section, head
from selftrain.selflabel.rounds.history import History, Round

if TYPE_CHECKING:
    from selftrain.learn.models.contract import Contract

MOST_CLASSES = 30
MOST_TEACHERS = 10  # the card names the latest ones; the tags of the registered version name all
CALIBRATED = 0.05


def model_card(contract: Contract, report: EvaluationReport, rounds: Sequence[Round], trained_on: TrainedOn) -> str:
    """The Markdown card of the model that `contract` describes; `report` is its evaluation on the test set.

    It follows Mitchell et al., Model Cards for Model Reporting (arXiv:1810.03993), and begins with the head that the
    Hugging Face Hub reads.
    """
    results = (
        Result("accuracy", "Accuracy", report.accuracy),
        Result("f1", "Macro F1", report.macro_f1),
        Result("ece", "Expected calibration error", report.calibration_error),
    )
    digest = contract.manifest_digest
    sections = [
        head(trained_on, pipeline="image-classification", results=results, manifest_digest=digest),
        _what_it_is(contract),
        _worth(report, a_student=History(rounds=tuple(rounds)).best.index > 0),
        _classes(report.per_class),
        data_section(trained_on, digest),
        _how_it_was_made(rounds),
        _limits(report),
        _provenance(contract),
    ]
    return "\n\n".join(sections) + "\n"


def _what_it_is(contract: Contract) -> str:
    names = ", ".join(escaped(name) for name in contract.class_names[:MOST_CLASSES])
    more = f" and {len(contract.class_names) - MOST_CLASSES} more" if len(contract.class_names) > MOST_CLASSES else ""
    return (
        f"# Image classifier: {len(contract.class_names)} classes\n\n"
        f"A network (`{contract.backbone}`) that reads images of {contract.image_size} x {contract.image_size} pixels "
        f"({contract.channel_order}; larger ones are resized) and answers a class with a calibrated confidence.\n\n"
        f"Classes: {names}{more}."
    )


def _worth(report: EvaluationReport, *, a_student: bool) -> str:
    lines = [
        "## How good it is",
        "",
        f"Measured on {report.images:,} held-out test images with human labels.",
        "",
        "| | |",
        "|---|---|",
        f"| accuracy | {_percent(report.accuracy)} ({_range(report.interval, report.alpha)}) |",
        f"| macro-F1 | {report.macro_f1:.3f} |",
        f"| expected calibration error | {report.calibration_error:.3f} |",
        f"| log loss | {report.log_loss:.3f} |",
        f"| Brier score (0 to 2) | {report.brier_score:.3f} |",
    ]
    if not a_student:
        lines += [
            "",
            "This is the first teacher. No student was better on validation, so the unlabelled images did not help.",
        ]
    elif report.comparison is not None:
        lines += ["", _against_first_teacher(report.comparison)]
    return "\n".join(lines)


def _against_first_teacher(compared: Comparison) -> str:
    what = {
        ComparisonResult.BETTER: "The unlabelled images helped.",
        ComparisonResult.WORSE: "The unlabelled images made it worse.",
        ComparisonResult.UNDECIDED: "Whether the unlabelled images helped remains undecided on these test images.",
    }[compared.finding]
    return (
        f"{what} The first teacher, before any pseudo-label, reached {_percent(compared.reference)} "
        f"on the same images: a difference of {100 * compared.difference:+.1f} points "
        f"({_range(compared.difference_interval, compared.alpha, sign='+')}; {compared.test}'s exact test, "
        f"p = {compared.p_value:.2g}, {compared.counts})."
    )


def _classes(scores: Sequence[ClassScores]) -> str:
    shown, note = list(scores), ""
    if len(scores) > MOST_CLASSES:
        shown = sorted(scores, key=lambda each: 1.0 if each.f1 is None else each.f1)[:MOST_CLASSES]
        note = f"The {MOST_CLASSES} classes of {len(scores)} with the lowest F1:\n\n"
    rows = [
        f"| {escaped(each.name)} | {each.support:,} | {_score(each.precision)} | {_score(each.recall)} "
        f"| {_score(each.f1)} |"
        for each in shown
    ]
    header = "| class | test images | precision | recall | F1 |\n|---|---:|---:|---:|---:|\n"
    return f"## By class\n\n{note}{header}" + "\n".join(rows)


def _how_it_was_made(rounds: Sequence[Round]) -> str:
    header = (
        "| round | backbone | human labels | pseudo-labels | threshold | validation accuracy | kept |\n"
        "|---:|---|---:|---:|---|---:|---|\n"
    )
    rows = [
        f"| {each.index} | `{each.backbone}` | {each.labeled:,} | {_pseudo(each)} "
        f"| {escaped(each.threshold or '-')} | {_reached(each)} | {'yes' if each.kept else 'no'} |"
        for each in rounds
    ]
    method = (
        "a student learns from human labels, and from the unlabelled images that it is itself confident of during "
        "training, without pseudo-labels from the teacher"
        if any(each.in_training for each in rounds)
        else "a teacher learns from human labels and labels the unlabelled images that it is confident of; a student "
        "learns from both"
    )
    return (
        f"## How it was made\n\nSelf-training: {method}. A student that is worse than its teacher is not kept.\n\n"
        f"{header}" + "\n".join(rows)
    )


def _limits(report: EvaluationReport) -> str:
    limits = [
        "It answers one of its classes for every image, even for an image that shows none of them.",
        "The figures hold for images like the test images; measure again if the camera or the subject changes.",
    ]
    if report.calibration_error > CALIBRATED:
        limits.append(
            f"Its confidence is off by {_percent(report.calibration_error)} on average; choose thresholds with care."
        )
    unseen = [each.name for each in report.per_class if each.support == 0]
    if unseen:
        limits.append(f"No test image shows {_listed(unseen)}, so its accuracy there is unknown.")
    unused = [each.name for each in report.per_class if each.precision is None]
    if unused:
        limits.append(f"It never answered {_listed(unused)} on test.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _provenance(contract: Contract) -> str:
    taught = "".join(f"\n- taught by `{each}`" for each in contract.lineage[-MOST_TEACHERS:])
    return (
        "## Provenance\n\n"
        f"- manifest `{contract.manifest_digest}`\n"
        f"- weights sha256 `{contract.weights_sha256}`\n"
        f"- seed {contract.seed}, {contract.image_steps:,} images seen in training, {contract.seconds:.0f} s\n"
        f"- temperature {contract.temperature:.3f}\n"
        f"- its identity as a teacher is `{contract.identity}`{taught}"
    )


def _pseudo(finished: Round) -> str:
    if finished.in_training:
        return f"in training ({finished.method})"
    return f"{finished.accepted:,} of {finished.pool:,}" if finished.index else "-"


def _reached(finished: Round) -> str:
    return "diverged" if finished.diverged else _percent(finished.validation_accuracy)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(escaped(name) for name in names[:10]) + more


def _range(interval: Interval, alpha: float, *, sign: str = "") -> str:
    return f"{100 * (1 - alpha):g} % interval {100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def escaped(name: str) -> str:
    """`name` with its Markdown escaped, so that it is plain text within one table cell."""
    return re.sub(r"[\\|*`<\[]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(name.split()))
