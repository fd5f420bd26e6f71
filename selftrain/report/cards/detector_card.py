"""The model card of a detector: what it finds, how well, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import Comparison
from selftrain.report.cards.head import Result, TrainedOn, data_section, head
from selftrain.report.cards.model_card import escaped
from selftrain.selflabel.rounds.history import Round

if TYPE_CHECKING:
    from selftrain.learn.detection.saving import DetectorContract


def detector_card(
    contract: DetectorContract, report: DetectionReport, rounds: Sequence[Round], trained_on: TrainedOn
) -> str:
    """The Markdown card of the detector that `contract` describes; `report` is its evaluation on the test set.

    It begins with the head that the Hugging Face Hub reads.
    """
    results = (
        Result("map", "mAP, COCO's rule", report.map),
        Result("map_50", "AP at an overlap of 0.5", report.ap50),
        Result("map_75", "AP at an overlap of 0.75", report.ap75),
    )
    digest = contract.manifest_digest
    sections = (
        head(trained_on, pipeline="object-detection", results=results, manifest_digest=digest),
        _what_it_is(contract),
        _worth(report),
        _classes(report),
        data_section(trained_on, digest),
        _rounds(rounds),
        _limits(report),
        _provenance(contract),
    )
    return "\n\n".join(sections) + "\n"


def _what_it_is(contract: DetectorContract) -> str:
    count = len(contract.class_names)
    answers = "boxes, classes, scores and outlines" if contract.masks else "boxes, classes and scores"
    return (
        f"# Object detector: {count} {'class' if count == 1 else 'classes'}\n\n"
        f"A network (`{contract.backbone}`) that reads images of any size, looked at with a longer side of at most "
        f"{contract.longest} pixels, and answers {answers}.\n\n"
        f"Classes: {', '.join(map(escaped, contract.class_names))}."
    )


def _worth(report: DetectionReport) -> str:
    low, high = report.interval
    rows = [
        f"| mAP | {report.map:.3f} ({low:.3f} to {high:.3f}) |",
        f"| AP50 | {report.ap50:.3f} |",
        f"| AP75 | {report.ap75:.3f} |",
        *_outlines(report),
        f"| average recall | {report.recall:.3f} |",
        *(f"| mAP, {name} objects | {value:.3f} |" for name, value in report.by_size.items()),
    ]
    compared = [
        _against(name, each)
        for name, each in (("its first teacher", report.comparison), ("the control", report.control))
        if each is not None
    ]
    measured = (
        f"Measured by COCO's rule on {report.images:,} held-out images with {report.objects:,} objects, at most "
        f"{report.most} detections an image."
    )
    return "\n".join(("## How good it is", "", measured, "", "| | |", "|---|---|", *rows, "", *compared)).rstrip()


def _outlines(report: DetectionReport) -> list[str]:
    masks = report.masks
    if masks is None:
        return []
    of = f"outlines of {masks.objects:,} objects"
    ends = "" if masks.interval is None else f" ({masks.interval[0]:.3f} to {masks.interval[1]:.3f})"
    return [f"| mAP, {of} | {masks.map:.3f}{ends} |", f"| AP50, {of} | {masks.ap50:.3f} |"]


def _against(name: str, compared: Comparison) -> str:
    low, high = compared.difference_interval
    return f"Against {name}: {compared.difference:+.3f} mAP ({low:+.3f} to {high:+.3f}): {compared.finding.value}."


def _classes(report: DetectionReport) -> str:
    rows = [
        f"| {escaped(each.name)} | {each.objects:,} | {_or_dash(each.map)} | {_or_dash(each.ap50)} |"
        for each in report.per_class
    ]
    return "## By class\n\n| class | test objects | mAP | AP50 |\n|---|---:|---:|---:|\n" + "\n".join(rows)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rounds(rounds: Sequence[Round]) -> str:
    rows = [
        f"| {each.index} | {each.labeled:,} | {each.pool if each.index else 0:,} | {each.validation_metric:.3f} "
        f"| {'yes' if each.kept else 'no'} |"
        for each in rounds
    ]
    return (
        "## How it was made\n\nA teacher learns from labels. A student goes on from it, on labels and on what its own "
        "average is sure of in images without labels.\n\n"
        "| round | labelled images | images without labels | validation | kept |\n|---:|---:|---:|---:|---|\n"
        + "\n".join(rows)
    )


def _limits(report: DetectionReport) -> str:
    limits = [
        "It finds objects of its classes alone, and may take another thing for one of them.",
        "The figures hold for images like the test images; measure again if the camera or the subject changes.",
    ]
    unseen = [escaped(each.name) for each in report.per_class if not each.objects]
    if unseen:
        limits.append(f"No test image shows {', '.join(unseen)}, so its precision there is unknown.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _provenance(contract: DetectorContract) -> str:
    taught = "".join(f"\n- taught by `{each}`" for each in contract.lineage)
    return (
        f"## Provenance\n\n- manifest `{contract.manifest_digest}`\n- weights sha256 `{contract.weights_sha256}`\n"
        f"- seed {contract.seed}, {contract.image_steps:,} views seen in training\n"
        f"- its identity as a teacher is `{contract.identity}`{taught}"
    )
