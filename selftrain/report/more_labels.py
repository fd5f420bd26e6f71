"""How many labels would help: a learning curve as a chart, and what follows from it in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selftrain.evaluate.statistics.forecast import Gain, LabelForecast
from selftrain.report.drawing import BLUE, GREY, PALE, figure, percent_axis

_TOLD = 100  # labels that the sentence is about, where the forecast knows them


def sentence(forecast: LabelForecast) -> str:
    """What more labels would add, in one sentence.

    >>> sentence(LabelForecast(labels=60, gains=(Gain(more=100, low=0.012, middle=0.03, high=0.05),)))
    '100 more labels would add +1.2 to +5.0 points, the middle being +3.0.'
    """
    if not forecast.gains:
        return f"That cannot be said: {forecast.unknown or 'no learning curve was measured'}."
    gain = min(forecast.gains, key=lambda each: abs(each.more - _TOLD))
    return f"{gain.more} more labels would add {span(gain)} points, the middle being {100 * gain.middle:+.1f}."


def span(gain: Gain) -> str:
    """The interval of `gain` in points."""
    return f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"


def learning_curve(forecast: LabelForecast, path: Path) -> Path:
    """Draw the accuracy by the number of labels, and what further labels would add, with their intervals.

    Raises InputError for a forecast without points.
    """
    with figure(path, width=6.4, height=2.9) as drawn:
        axes = drawn.subplots()
        labels = np.array([each.labels for each in forecast.points])
        accuracy = np.array([each.accuracy for each in forecast.points])
        axes.vlines(
            labels, [x.low for x in forecast.points], [x.high for x in forecast.points], color=PALE, linewidth=5
        )
        axes.plot(labels, accuracy, color=BLUE, linewidth=1.5, marker="o", markersize=5, label="measured")
        if forecast.gains:
            now = accuracy[-1] if forecast.now is None else forecast.now
            ahead = np.array([0, *(each.more for each in forecast.gains)]) + forecast.labels
            low, middle, high = (
                now + np.array([0.0, *(getattr(each, name) for each in forecast.gains)])
                for name in ("low", "middle", "high")
            )
            axes.fill_between(ahead, low, np.minimum(high, 1.0), color=PALE, alpha=0.6, linewidth=0)
            axes.plot(ahead, np.minimum(middle, 1.0), color=GREY, linestyle="--", label="expected")
            axes.legend(loc="lower right")
        axes.set_xscale("log")
        ticks = _apart([*labels.tolist(), *(forecast.labels + each.more for each in forecast.gains)])
        axes.set_xticks(ticks, [f"{each:,}" for each in ticks])
        axes.minorticks_off()
        axes.set_xlabel("human labels")
        axes.set_ylabel("accuracy, held-out labels")
        axes.grid(axis="y", color=PALE, linewidth=0.5)
        percent_axis(axes.yaxis)
    return path


def _apart(labels: list[int]) -> list[int]:
    """The `labels` in their order, without those that would lie over the one before on an axis of logarithms.

    >>> _apart([30, 60, 120, 130, 170, 320])
    [30, 60, 120, 170, 320]
    """
    found: list[int] = []
    for each in sorted(set(labels)):
        if not found or each >= 1.25 * found[-1]:
            found.append(each)
    return found
