"""The drift of a retraining: its line is found again among the windows that the data set's folder keeps."""

from __future__ import annotations

from pathlib import Path

from selftrain.adapters.report.drift import measured_drift
from selftrain.adapters.retraining.watching import line_of, watch_of
from selftrain.config import Machine
from selftrain.data.store.dataset import Dataset
from selftrain.files.workspace import Workspace
from tests.retraining.drift.test_decision import nights


def test_the_window_of_the_line_and_those_before_it_are_shown(tmp_path: Path) -> None:
    dataset, windows = Dataset(Workspace(tmp_path), "set", Machine()), nights(count=8)
    (tmp_path / "datasets").mkdir()
    watch_of(dataset).folder.mkdir()
    watch_of(dataset).keep(windows)
    found = measured_drift(line_of(windows[6]), dataset)
    assert found is not None
    assert found.windows == windows[:7]
    assert found.line == windows[6].decision.reason
    replaced = measured_drift("no drift: of a window that is not there any more", dataset)
    assert replaced is not None
    assert replaced.windows == ()


def test_words_that_return_are_told_apart_by_the_name_of_their_window(tmp_path: Path) -> None:
    dataset, windows = Dataset(Workspace(tmp_path), "set", Machine()), nights(count=3)
    alike = [
        each.model_copy(update={"decision": windows[0].decision, "name": f"{i}+9"}) for i, each in enumerate(windows)
    ]
    (tmp_path / "datasets").mkdir()
    watch_of(dataset).folder.mkdir()
    watch_of(dataset).keep(alike)
    by_name = measured_drift(line_of(alike[1]), dataset)
    assert by_name is not None
    assert by_name.windows == tuple(alike[:2])
    by_words = measured_drift(windows[0].decision.reason, dataset)
    assert by_words is not None
    assert by_words.windows == ()


def test_a_run_that_measured_none_has_none(tmp_path: Path) -> None:
    assert measured_drift(None, Dataset(Workspace(tmp_path), "set", Machine())) is None
