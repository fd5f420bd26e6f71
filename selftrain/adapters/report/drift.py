"""The drift that a retraining measured, as its run and the data set's folder keep it."""

from __future__ import annotations

from selftrain.adapters.retraining.watching import watch_of
from selftrain.data.store.dataset import Dataset
from selftrain.report.page.run_facts import MeasuredDrift

SHOWN = 12
"""Windows, the one that the run saw included."""


def measured_drift(line: str | None, dataset: Dataset) -> MeasuredDrift | None:
    """What the retraining whose step `watch` said `line` measured; None for a run that measured none.

    The windows end with the one that the line is about, if the folder still has it. One that waited for a retraining
    is replaced there when more images have come.
    """
    if line is None:
        return None
    windows = watch_of(dataset).windows()
    at = next((place for place in reversed(range(len(windows))) if windows[place].decision.reason == line), None)
    if at is None:
        return MeasuredDrift(line)
    space = windows[at].summary.space
    before = [each for each in windows[:at] if each.summary.space == space]
    return MeasuredDrift(line, (*before, windows[at])[-SHOWN:])
