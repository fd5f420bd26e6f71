"""The drift that a retraining measured, as its run and the data set's folder keep it."""

from __future__ import annotations

from selftrain.adapters.retraining.watching import reason_and_name, watch_of
from selftrain.data.store.dataset import Dataset
from selftrain.report.page.run_facts import MeasuredDrift

SHOWN = 12
"""Windows, the one that the run saw included."""


def measured_drift(line: str | None, dataset: Dataset) -> MeasuredDrift | None:
    """What the retraining whose step `watch` said `line` measured; None for a run that measured none.

    The windows end with the one that the line is about, if the folder still has it. One that waited for a retraining
    is replaced there when more images have come. A line without a window's name must be the only one of its words.
    """
    if line is None:
        return None
    reason, name = reason_and_name(line)
    windows = watch_of(dataset).windows()
    fits = [each.decision.reason == reason and (name is None or each.name == name) for each in windows]
    if fits.count(True) != 1:
        return MeasuredDrift(reason)
    at = fits.index(True)
    space = windows[at].summary.space
    before = [each for each in windows[:at] if each.summary.space == space]
    return MeasuredDrift(reason, (*before, windows[at])[-SHOWN:])
