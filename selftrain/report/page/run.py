"""The page about a run: one HTML file that needs no network, and answers whether the unlabelled images helped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from markupsafe import Markup

from selftrain.config import METRIC_NAMES
from selftrain.evaluate.evaluation import ClassScores
from selftrain.evaluate.statistics.intervals import wilson
from selftrain.report import charts, more_labels, round_charts
from selftrain.report.coverage import precision_by_coverage
from selftrain.report.page import errors
from selftrain.report.page.run_facts import ReportedRun
from selftrain.report.page.sheets import Sheet, shown
from selftrain.report.page.space import legend, points, space_facts
from selftrain.report.page.svg import inline
from selftrain.report.page.templates import own_text, rendered
from selftrain.report.page.trust import hinted, reasons
from selftrain.report.page.verdict import comparisons, verdict
from selftrain.report.page.what_if import what_if
from selftrain.report.summary import number
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, RejectionReason

QUESTIONS = (
    ("helped", "Did it help?"),
    ("rounds", "Round by round"),
    ("labelled", "What did it label?"),
    ("whatif", "What if?"),
    ("wrong", "Where is it wrong?"),
    ("next", "What should people label next?"),
    ("trust", "Can I trust the numbers?"),
    ("space", "The space"),
    ("drift", "Drift"),
    ("receipt", "Receipt"),
)
_MOST_NEEDS = 20  # classes that are named as those to label next


def needed_pictures(run: ReportedRun) -> tuple[str, ...]:
    """The ids of the images that the page of `run` shows; their thumbnails go into its `pictures`."""
    on_sheets = [entry.image_id for _, found in shown(run.labels) for sheet in found for entry in sheet.entries]
    wrong = [x.image_id for pair in errors.hardest_pairs(run.evaluation) for x in pair.wrong]
    return tuple(dict.fromkeys([*on_sheets, *wrong, *hinted(run)]))


def with_height(page: str, height: str) -> str:
    """`page` for a viewer that cannot measure it: with a CSS `height` such as "60rem", it scrolls in itself."""
    return page.replace("</style>", f"body {{ height: {height}; overflow: auto; }}\n</style>", 1)


def run_page(run: ReportedRun) -> str:
    """The page of `run` as HTML. Every text from the data is escaped."""
    record, evaluation = run.record, run.evaluation
    tested = evaluation or run.detection
    settings = dict(run.receipt)
    configuration = settings.pop("configuration", "")
    return rendered(
        "run.html",
        run=run,
        r=record,
        ev=evaluation,
        js=own_text("run.js") + own_text("space.js"),
        questions=[each for each in QUESTIONS if each[0] != "drift" or run.drift is not None],
        verdict=verdict(record, control_failed=None if tested is None else tested.control_diverged),
        versus=comparisons(record),
        value=partial(number, metric=record.metric),
        metric=METRIC_NAMES[record.metric],
        validated=METRIC_NAMES[record.rounds_metric],
        boxes=run.detection,
        has_control=record.control_test_accuracy is not None,
        figures=_figures(record),
        charts=_charts(run),
        labelled=[_labelled(labels, sheets) for labels, sheets in shown(run.labels)],
        whatif=[(labels.round, asdict(facts)) for labels in run.labels[-1:] if (facts := what_if(labels))],
        matrix=errors.matrix(evaluation),
        pairs=errors.hardest_pairs(evaluation),
        classes=_classes(run),
        more_labels=None if run.forecast is None else more_labels.sentence(run.forecast),
        gains=[] if run.forecast is None else [(x.more, more_labels.span(x)) for x in run.forecast.gains],
        needs=[] if run.forecast is None else run.forecast.classes[:_MOST_NEEDS],
        trust=reasons(run),
        quality=None if run.validation is None else run.validation.quality,
        points=points(run),
        space_facts=space_facts(run),
        legend=legend(run),
        receipt=_receipt(record, settings),
        configuration=configuration,
    )


def _figures(record: RunRecord) -> list[tuple[str, str]]:
    """The few numbers above everything, as far as they are known."""
    found: list[tuple[str, str]] = []
    if record.test_accuracy is not None:
        found.append((f"Test {METRIC_NAMES[record.metric]}", number(record.test_accuracy, record.metric)))
    if record.test_interval is not None:
        low, high = (number(end, record.metric) for end in record.test_interval)
        found.append(("95 % interval", f"{low.removesuffix(' %')} to {high}"))
    if record.labels_used is not None:
        found.append(("Human labels used", f"{record.labels_used:,}"))
    if record.rounds:
        found.append(("Image-steps, all models", f"{sum(each.image_steps for each in record.rounds):,}"))
        found.append(("Training, minutes", f"{sum(each.seconds for each in record.rounds) / 60:.1f}"))
    if record.registered_version is not None:
        stands = record.promoted or record.champion_version == record.registered_version
        standing = "champion" if stands else "challenger"
        found.append(("Registered", f"version {record.registered_version}, {standing}"))
    return found


def _charts(run: ReportedRun) -> dict[str, Markup]:
    record, found = run.record, dict[str, Markup]()
    if any(each.diverged is None for each in record.rounds):
        found["accuracy"] = inline(
            partial(round_charts.accuracy_by_round, record.rounds, metric=record.rounds_metric), name="accuracy"
        )
    filled = [labels for labels in run.labels if len(labels)]
    if filled and len(run.human_labels) == len(filled[-1].class_names):
        found["mix"] = inline(partial(round_charts.class_mix, filled, run.human_labels), name="mix")
    if run.forecast is not None and run.forecast.points:
        found["more_labels"] = inline(partial(more_labels.learning_curve, run.forecast), name="more-labels")
    return found


def _labelled(labels: PseudoLabels, sheets: tuple[Sheet, ...]) -> dict[str, object]:
    """A round as the section on its labels shows it."""

    def chart(draw: Callable[[PseudoLabels, Path], Path], name: str) -> Markup | None:
        return inline(partial(draw, labels), name=f"{name}-{labels.round}") if len(labels) else None

    return {
        "round": labels.round,
        "teacher": labels.teacher,
        "threshold": labels.threshold,
        "accepted": labels.count(RejectionReason.ACCEPTED),
        "pool": len(labels),
        "findings": labels.findings,
        "sheets": sheets,
        "overall": chart(charts.confidence_overall, "overall"),
        "precision": chart(precision_by_coverage, "precision") if labels.curve and labels.measured else None,
        "per_class": chart(charts.confidence_per_class, "class"),
    }


def _classes(run: ReportedRun) -> list[tuple[ClassScores, float | None, float | None]]:
    """Each class's scores and the interval of its recall, the lowest recall first."""
    if run.evaluation is None:
        return []
    found: list[tuple[ClassScores, float | None, float | None]] = []
    for scores, row in zip(run.evaluation.per_class, run.evaluation.confusion, strict=True):
        right = row[len(found)]
        low, high = wilson(right, scores.support) if scores.support else (None, None)
        found.append((scores, low, high))
    return sorted(found, key=lambda each: 2.0 if each[0].recall is None else each[0].recall)


def _receipt(record: RunRecord, settings: dict[str, str]) -> list[tuple[str, str]]:
    facts = {
        "run": record.run_id,
        "manifest digest": record.manifest_digest,
        "data set version": record.dataset_version,
        "model": record.model_uri,
        **{f"model digest, {each.index or 'teacher'}": each.model_digest for each in record.rounds if each.kept},
        "promotion": record.promotion_reason,
        **settings,
    }
    return [(name, value) for name, value in facts.items() if value]
