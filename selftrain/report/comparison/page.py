"""The page about two runs: which is better, what differs between them, and which images changed their answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from selftrain.config import METRIC_NAMES
from selftrain.evaluate.detail import ClassComparison
from selftrain.evaluate.detection import ClassPrecision
from selftrain.evaluate.evaluation import Comparison, ComparisonResult
from selftrain.report import round_charts
from selftrain.report.comparison.answers import (
    Answer,
    ComparedRun,
    SharedTest,
    all_known,
    confusion_changes,
    drawn,
    overall,
    per_class,
    share,
)
from selftrain.report.comparison.settings import NOT_SET, SettingChange, changed_settings
from selftrain.report.page.run_facts import Picture
from selftrain.report.page.svg import inline
from selftrain.report.page.templates import rendered
from selftrain.report.page.verdict import Tone
from selftrain.report.summary import number
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

MOST_IMAGES = 48
"""Images per contact sheet: those that run B gained, and those that it lost."""
MOST_CONFUSIONS = 12
QUESTIONS = (
    ("better", "Which run is better?"),
    ("differs", "What differs between them?"),
    ("rounds", "Round by round"),
    ("classes", "Which classes changed?"),
    ("images", "Which images changed their answer?"),
)


@dataclass(frozen=True)
class Judged:
    """The answer in one sentence, what it rests on, and what a reader must know about the images."""

    tone: Tone
    sentence: str
    basis: str = ""
    notes: tuple[str, ...] = ()


def shown_images(first: ComparedRun, second: ComparedRun) -> tuple[str, ...]:
    """The ids of the images that the page shows; their thumbnails go into its `pictures`."""
    joined = _joined(first, second)
    return () if joined is None else tuple(each.image_id for each in (*_sheet(joined.gained), *_sheet(joined.lost)))


def comparison_page(first: ComparedRun, second: ComparedRun, pictures: dict[str, Picture]) -> str:
    """The page of run A (`first`) and run B (`second`) as HTML. Every text from the data is escaped.

    `pictures` are thumbnails by image id; the page shows those that it finds.
    """
    joined, metric = _joined(first, second), first.record.metric
    compared = None if joined is None else overall(joined.answers)
    return rendered(
        "comparison.html",
        runs=(("A", first.record), ("B", second.record)),
        questions=QUESTIONS,
        judged=_judged(first, second, joined, compared),
        figures=_figures(first.record, second.record, compared),
        own=[_own(name, run.record) for name, run in (("A", first), ("B", second))],
        metric=METRIC_NAMES[metric],
        validated={name: METRIC_NAMES[run.record.rounds_metric] for name, run in (("A", first), ("B", second))},
        value=partial(number, metric=metric),
        changes=(*_made(first, second), *changed_settings(first.settings, second.settings)),
        rounds=list(zip_longest(first.record.rounds, second.record.rounds)),
        chart=_chart(first.record, second.record),
        joined=joined,
        compared=compared,
        classes=[] if joined is None else _hardest_first(per_class(joined.answers)),
        boxes=_boxes(first, second),
        confusions=() if joined is None else confusion_changes(joined.answers, most=MOST_CONFUSIONS),
        sheets=() if joined is None else _sheets(joined),
        pictures=pictures,
    )


def _joined(first: ComparedRun, second: ComparedRun) -> SharedTest | None:
    """The images of both test sets; None where a run did not store all its answers."""
    return share(first, second) if all_known(first) and all_known(second) else None


def _judged(first: ComparedRun, second: ComparedRun, joined: SharedTest | None, compared: Comparison | None) -> Judged:
    untested = [name for name, run in (("A", first), ("B", second)) if run.record.test_accuracy is None]
    if untested:
        which = " and ".join(f"run {name}" for name in untested)
        return Judged("warn", f"Not known: {which} stored no result on test.")
    if first.record.metric == "map":
        basis = "Each mAP has its own interval. The runs did not store the boxes, so they cannot be paired by image."
        return Judged("warn", _of_boxes(first.record, second.record), basis, _notes(first, second, None))
    if joined is None:
        unknown = " and ".join(f"run {name}" for name, run in (("A", first), ("B", second)) if not all_known(run))
        basis = "Only runs of this version or with few errors stored the answer to every test image."
        return Judged("warn", f"Not known: {unknown} did not store all answers on test.", basis)
    if compared is None:
        return Judged("warn", "Not known: the runs have no test image in common.", "", _notes(first, second, joined))
    if all(each.first == each.second for each in joined.answers):
        alike = f"Both runs give the same answer to all {len(joined.answers):,} test images that both have."
        return Judged("warn", alike, "Their final models may be the same one.", _notes(first, second, joined))
    return _paired(compared, len(joined.answers), _notes(first, second, joined))


def _paired(compared: Comparison, images: int, notes: tuple[str, ...]) -> Judged:
    low, high = (100 * end for end in compared.difference_interval)
    points = 100 * compared.difference
    basis = (
        f"On {images:,} test images that both runs have: {compared.n10} gained, {compared.n01} lost, "
        f"{points:+.1f} points of accuracy, 95 % interval {low:+.1f} to {high:+.1f}, "
        f"{compared.test} p = {compared.p_value:.2g}."
    )
    match compared.finding:
        case ComparisonResult.BETTER:
            return Judged("good", f"Run B is better than run A, by {points:.1f} points of test accuracy.", basis, notes)
        case ComparisonResult.WORSE:
            return Judged("bad", f"Run B is worse than run A, by {-points:.1f} points of test accuracy.", basis, notes)
        case ComparisonResult.UNDECIDED:
            sentence = f"No difference is proven: {points:+.1f} points from run A to run B may be chance."
            return Judged("warn", sentence, basis, notes)


def _of_boxes(first: RunRecord, second: RunRecord) -> str:
    one, other = first.test_accuracy or 0.0, second.test_accuracy or 0.0
    higher = "Run B has the higher mAP" if other > one else "Run B has the lower mAP" if other < one else "Equal mAP"
    return f"{higher}: {number(other, 'map')} against {number(one, 'map')}. Whether that is chance is not known."


def _notes(first: ComparedRun, second: ComparedRun, joined: SharedTest | None) -> tuple[str, ...]:
    """What a reader must know about the images that were compared, one sentence each."""
    notes = []
    if joined is not None and joined.same:
        notes.append("Both runs have the same test images with the same labels.")
    elif joined is not None:
        notes.append(
            f"The test sets differ: {joined.only_first:,} images are in that of run A alone, "
            f"{joined.only_second:,} in that of run B alone. Only what both share is compared."
        )
    elif first.truth != second.truth:
        notes.append("The test sets differ, so the two mAP are of different images.")
    if joined is not None and joined.relabelled:
        notes.append(f"{joined.relabelled:,} shared images have another label in the other run, and are left out.")
    return (*notes, *_looks(first, second, same=joined is not None and joined.same))


def _looks(first: ComparedRun, second: ComparedRun, *, same: bool) -> list[str]:
    """How many models the test set has judged: one that was chosen by it is a little worse on new images."""
    of_each = {name: run.record.test_looks or 0 for name, run in (("A", first), ("B", second))}
    if same or first.truth == second.truth:
        told = {"this test set": max(of_each.values())}
    else:
        told = {f"the test set of run {name}": looks for name, looks in of_each.items()}
    known = [
        f"{looks} {'model has' if looks == 1 else 'models have'} been evaluated on {name}."
        for name, looks in told.items()
        if looks
    ]
    chosen = "A run that you choose because it is better here is a little worse on new images."
    return [" ".join([*known, chosen])] if known else []


def _figures(first: RunRecord, second: RunRecord, compared: Comparison | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, record in (("A", first), ("B", second)):
        if record.test_accuracy is not None:
            found.append(
                (f"Test {METRIC_NAMES[record.metric]}, run {name}", number(record.test_accuracy, record.metric))
            )
    if compared is not None:
        low, high = (100 * end for end in compared.difference_interval)
        found.append(("Difference on shared images", f"{100 * compared.difference:+.1f} points"))
        found.append(("95 % interval", f"{low:+.1f} to {high:+.1f}"))
        found.append(("Images gained", f"{compared.n10:,}"))
        found.append(("Images lost", f"{compared.n01:,}"))
    return found


def _own(name: str, record: RunRecord) -> dict[str, str]:
    """A run's own results, as a row of text."""
    show = partial(number, metric=record.metric)
    ends = None if record.test_interval is None else [show(end) for end in record.test_interval]
    return {
        "name": f"run {name}",
        "id": record.run_id[:8],
        "status": record.status,
        "images": "-" if record.test_images is None else f"{record.test_images:,}",
        "value": "-" if record.test_accuracy is None else show(record.test_accuracy),
        "interval": "-" if ends is None else f"{ends[0].removesuffix(' %')} to {ends[1]}",
        "labels": "-" if record.labels_used is None else f"{record.labels_used:,}",
        "steps": f"{sum(each.image_steps for each in record.rounds):,}",
        "minutes": f"{sum(each.seconds for each in record.rounds) / 60:.1f}",
        "registered": "-" if record.registered_version is None else f"version {record.registered_version}",
    }


def _made(first: ComparedRun, second: ComparedRun) -> tuple[SettingChange, ...]:
    """What else differs: the data, and the machine's software."""
    one, other = _facts(first), _facts(second)
    return tuple(
        SettingChange(name, one.get(name) or NOT_SET, other.get(name) or NOT_SET)
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    )


def _facts(run: ComparedRun) -> dict[str, str | None]:
    record = run.record
    return {"data: manifest digest": record.manifest_digest, "data: version": record.dataset_version, **run.made}


def _chart(first: RunRecord, second: RunRecord) -> object:
    runs = [_trained(first.rounds), _trained(second.rounds)]
    if not all(runs) or first.rounds_metric != second.rounds_metric:
        return None
    return inline(partial(round_charts.accuracy_of_runs, runs, metric=first.rounds_metric), name="rounds")


def _trained(rounds: Sequence[Round]) -> list[Round]:
    return [each for each in rounds if each.diverged is None]


def _hardest_first(classes: Sequence[ClassComparison]) -> list[ClassComparison]:
    """The largest change first."""
    return sorted(classes, key=lambda each: (-abs(each.won - each.lost), each.name))


def _boxes(first: ComparedRun, second: ComparedRun) -> list[tuple[str, ClassPrecision | None, ClassPrecision | None]]:
    """The average precisions of two detectors, per class name."""
    if first.detection is None or second.detection is None:
        return []
    one, other = ({each.name: each for each in run.per_class} for run in (first.detection, second.detection))
    return [(name, one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())]


def _sheet(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    return drawn(answers, most=MOST_IMAGES)


def _sheets(joined: SharedTest) -> tuple[tuple[str, int, tuple[Answer, ...]], ...]:
    return (
        ("Gained: only run B is right", len(joined.gained), _sheet(joined.gained)),
        ("Lost: only run A is right", len(joined.lost), _sheet(joined.lost)),
    )
