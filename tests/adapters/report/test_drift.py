"""The drift of a retraining: its line is found again among the windows that the data set's folder keeps."""

from __future__ import annotations

from pathlib import Path

from selftrain.adapters.report.drift import measured_drift
from selftrain.adapters.retraining.watching import watch_of
from selftrain.config import Machine
from selftrain.data.store.dataset import Dataset
from selftrain.files.workspace import Workspace
from tests.retraining.drift.test_decision import nights


def test_the_window_of_the_line_and_those_before_it_are_shown(tmp_path: Path) -> None:
    dataset, windows = Dataset(Workspace(tmp_path), "set", Machine()), nights(count=8)
    (tmp_path / "datasets").mkdir()
    watch_of(dataset).folder.mkdir()
    watch_of(dataset).keep(windows)
    found = measured_drift(windows[6].decision.reason, dataset)
    assert found is not None
    assert found.windows == windows[:7]
    replaced = measured_drift("no drift: of a window that is not there any more", dataset)
    assert replaced is not None
    assert replaced.windows == ()


def test_a_run_that_measured_none_has_none(tmp_path: Path) -> None:
    assert measured_drift(None, Dataset(Workspace(tmp_path), "set", Machine())) is None
