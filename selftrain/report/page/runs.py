"""The page about all runs: how each experiment's models became better or not, and which of them are champions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from markupsafe import Markup

from selftrain.config import METRIC_NAMES
from selftrain.report.drawing import BLUE, PALE, figure, percent_axis
from selftrain.report.page.svg import inline
from selftrain.report.page.templates import rendered
from selftrain.report.page.verdict import BETTER_OF_LABELS, comparisons, verdict
from selftrain.report.summary import number
from selftrain.selflabel.rounds.record import RunRecord

MOST_DRAWN = 60  # points in a chart that are told apart


@dataclass(frozen=True)
class Row:
    """A run in the table, in words."""

    id: str
    status: str
    tone: str
    verdict: str
    labels: str
    rounds: str
    value: str
    interval: str
    difference: str
    minutes: str
    registered: str


@dataclass(frozen=True)
class Shown:
    """The runs of one experiment, newest first."""

    id: str
    name: str
    metric: str
    sentence: str
    chart: Markup | None
    rows: tuple[Row, ...]


def runs_page(records: Sequence[RunRecord], *, most: int) -> str:
    """The page of `records`, the newest first, as HTML; `most` is how many were asked for. Every text is escaped."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for each in records:
        groups.setdefault((each.name, each.metric), []).append(each)
    return rendered(
        "runs.html",
        count=len(records),
        more="; older ones are not shown" if len(records) >= most else "",
        experiments=[_shown(f"experiment-{at}", own) for at, own in enumerate(groups.values())],
    )


def _shown(id: str, records: list[RunRecord]) -> Shown:
    metric = METRIC_NAMES[records[0].metric]
    tested = [each for each in reversed(records) if each.test_accuracy is not None][-MOST_DRAWN:]
    chart = inline(partial(accuracy_by_run, tested), name=id) if len(tested) > 1 else None
    return Shown(id, records[0].name, metric, _champion(records), chart, tuple(map(_row, records)))


def _is_champion(record: RunRecord) -> bool:
    """Whether the run's model was champion when the run ended."""
    return record.registered_version is not None and record.champion_version == record.registered_version


def _champion(records: list[RunRecord]) -> str:
    """Who was champion after the newest run that knows it. `selftrain promote` may have changed it since."""
    last = next((each.champion_version for each in records if each.champion_version is not None), None)
    if last is None:
        return "No run of this experiment has a champion."
    run = next((each for each in records if each.registered_version == last), None)
    if run is None or run.test_accuracy is None:
        return f"Version {last} was champion after the newest run; its own run is not among these."
    value = number(run.test_accuracy, run.metric)
    return f"Version {last}, of run {run.run_id[:8]}, was champion after the newest run: {value} on test."


def _row(record: RunRecord) -> Row:
    found = verdict(record)
    against = [each for each in comparisons(record) if each.name in BETTER_OF_LABELS]
    hardest = min(against, key=lambda each: each.difference, default=None)
    show = partial(number, metric=record.metric)
    ends = None if record.test_interval is None else [show(end) for end in record.test_interval]
    standing = "champion" if _is_champion(record) else "challenger"
    return Row(
        id=record.run_id[:8],
        status=record.status,
        tone=found.tone,
        verdict=found.sentence,
        labels="-" if record.labels_used is None else f"{record.labels_used:,}",
        rounds=str(max(len(record.rounds) - 1, 0)),
        value="-" if record.test_accuracy is None else show(record.test_accuracy),
        interval="-" if ends is None else f"{ends[0].removesuffix(' %')} to {ends[1]}",
        difference="-" if hardest is None else f"{100 * hardest.difference:+.1f}",
        minutes=f"{sum(each.seconds for each in record.rounds) / 60:.1f}",
        registered="-" if record.registered_version is None else f"version {record.registered_version}, {standing}",
    )


def accuracy_by_run(records: Sequence[RunRecord], path: Path) -> Path:
    """Draw the test accuracy of `records`, the oldest first, with intervals; champions are filled."""
    with figure(path, width=6.4, height=2.9) as drawn:
        axes = drawn.subplots()
        values = [each.test_accuracy or 0.0 for each in records]
        axes.plot(range(len(values)), values, color=BLUE, linewidth=1.0, zorder=2)
        for at, (each, value) in enumerate(zip(records, values, strict=True)):
            if each.test_interval is not None:
                axes.vlines(at, *each.test_interval, color=PALE, linewidth=5, zorder=1)
            axes.scatter(at, value, s=36, facecolors=BLUE if _is_champion(each) else "none", edgecolors=BLUE, zorder=3)
        step = max(1, len(records) // 12)
        axes.set_xticks(range(0, len(records), step), [each.run_id[:4] for each in records[::step]])
        axes.set_ylabel(f"test {METRIC_NAMES[records[0].metric]}")
        axes.grid(axis="y", color=PALE, linewidth=0.5)
        axes.margins(x=0.06, y=0.12)
        if records[0].metric == "accuracy":
            percent_axis(axes.yaxis)
    return path
