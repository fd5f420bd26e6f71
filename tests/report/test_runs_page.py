"""The page about all runs: newest first, by experiment, with the champion; no name becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

from selftrain.report.page.runs import accuracy_by_run, runs_page
from selftrain.selflabel.rounds.record import RunRecord
from tests.report.test_run_page import MARKUP, record


def run(number: int, **changes: object) -> RunRecord:
    facts = {"run_id": f"{number:08d}-aaaa", "registered_version": number, "champion_version": number, "promoted": True}
    return record(**facts | changes)


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1]))


def test_each_run_has_a_row_and_the_champion_is_named() -> None:
    said = text(runs_page([run(3, champion_version=2, promoted=False, test_accuracy=0.7), run(2), run(1)], most=200))
    assert "Version 2, of run 00000002, was champion after the newest run: 90.0 % on test." in said
    rows = re.findall(r"0000000(\d) .*?version (\d), (champion|challenger)", said.split("Registered", 1)[1])
    assert rows == [("3", "3", "challenger"), ("2", "2", "champion"), ("1", "1", "champion")]


def test_experiments_have_sections_of_their_own_and_a_run_without_a_test_is_shown() -> None:
    failed = RunRecord(run_id="f" * 8, name="flowers", status="failed", error="no disk")
    page = runs_page([failed, run(1)], most=200)
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", page) == ["flowers", "digits"]
    assert "Unknown: the run failed before its test." in page
    assert "No run of this experiment has a champion." in page


def test_that_older_runs_are_left_out_is_said() -> None:
    assert "older ones are not shown" in runs_page([run(2), run(1)], most=2)
    assert "older ones" not in runs_page([run(2), run(1)], most=3)
    assert "No run has been started yet." in runs_page([], most=3)


def test_names_are_text_and_nothing_is_loaded() -> None:
    page = runs_page([run(number, name=name) for number, name in enumerate(MARKUP)], most=200)
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", page)


def test_the_chart_has_a_point_for_each_run(tmp_path: Path) -> None:
    path = accuracy_by_run([run(number) for number in range(40)], tmp_path / "chart.svg")
    assert path.read_text().count("PathCollection_") == 40
