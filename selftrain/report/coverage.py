"""The chart of coverage and precision at the chosen threshold and at all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from selftrain.errors import PredictionError
from selftrain.evaluate.coverage import CoverageCurve, MeasuredPrecision
from selftrain.report.drawing import BLUE, PALE, VERMILION, figure, percent_axis, title
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Doubles = npt.NDArray[np.float64]
MOST_LINES = 30


def precision_by_coverage(labels: PseudoLabels, path: Path) -> Path:
    """Draw the precision on held-out labels by share of the pool and by threshold, and mark the chosen threshold.

    The band is the confidence interval of the precision. The result is a PNG at `path`. Raises PredictionError for
    labels that were not measured on held-out labels.
    """
    if labels.curve is None or labels.measured is None:
        raise PredictionError("these pseudo-labels were not measured on held-out labels, so they have no curve to draw")
    columns = labels.curve.table().to_pydict()
    precision, low, high = (np.array(columns[name], np.float64) for name in ("precision", "low", "high"))
    shown = np.isfinite(precision)
    lowest = _lowest(precision[shown], labels.measured)
    with figure(path, width=8.6, height=3.6) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for axes, name in ((left, "coverage"), (right, "cutoff")):
            at = np.array(columns[name], np.float64)[shown]
            axes.fill_between(at, low[shown], high[shown], color=PALE, alpha=0.6, linewidth=0)
            axes.plot(at, precision[shown], color=BLUE, marker="o", markersize=2)
            axes.grid(axis="y", color=PALE, linewidth=0.5)
            axes.set_ylim(lowest, 1 + 0.02 * (1 - lowest))
            percent_axis(axes.yaxis)
        left.set(xlabel="share of the pool accepted", ylabel="precision on held-out images", xlim=(0, 1.02))
        percent_axis(left.xaxis)
        right.set(xlabel="threshold")
        _chosen(left, right, labels)
        title(drawn, _title(labels, labels.curve, labels.measured))
    return path


def _chosen(left: Axes, right: Axes, labels: PseudoLabels) -> None:
    measured = labels.measured
    if measured is None or not measured.accepted:
        return
    left.axvline(measured.coverage, color=VERMILION, linewidth=1.2)
    if measured.precision is not None:
        low, high = measured.interval
        left.vlines(measured.coverage, low, high, color=VERMILION, linewidth=3)
        left.scatter(measured.coverage, measured.precision, color=VERMILION, s=24, zorder=3)
    cutoffs = sorted({cutoff for cutoff in labels.cutoffs if cutoff > 0})
    for cutoff in cutoffs[:MOST_LINES]:
        right.axvline(cutoff, color=VERMILION, linewidth=1.2 if len(cutoffs) <= 8 else 0.5)


def _lowest(precision: Doubles, measured: MeasuredPrecision) -> float:
    """The lower end of the precision axis: a little below the lowest precision, although intervals may reach lower."""
    values = [*precision.tolist(), *([measured.interval[0]] if measured.images else [])]
    return max(0.0, min(values, default=0.0) - 0.05)


def _title(labels: PseudoLabels, curve: CoverageCurve, measured: MeasuredPrecision) -> str:
    begin = f"Round {labels.round}: threshold" if labels.round else "Threshold"
    if measured.precision is None:
        return f"{begin} {labels.threshold} accepts none of {curve.held_out:,} held-out images"
    low, high = measured.interval
    right = f"{100 * measured.precision:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return (
        f"{begin} {labels.threshold}\naccepts {100 * measured.coverage:.0f} % of the pool; "
        f"{measured.right:,} of {measured.images:,} held-out images are right: {right}"
    )
