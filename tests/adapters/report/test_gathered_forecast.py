"""The forecast of a run lies beside its baseline, or beside the control that is the baseline as well."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selftrain.adapters.report.gathering import _forecast
from selftrain.data.ingest.report import IngestReport
from selftrain.evaluate.statistics.forecast import Gain, LabelForecast
from selftrain.learn.models.contract import FORECAST_FILE

GAIN = Gain(more=100, low=0.0, middle=0.01, high=0.02)
INGESTED = IngestReport(
    images=9, quarantined=0, quarantine_share=0.0, quarantine_table="q.csv", excluded=0, unlabeled_copies=0,
    ignored_files=0, files_read=9,
)  # fmt: skip


def output(folder: Path, labels: int | None) -> Any:
    """A model's artifact, with a forecast from so many labels beside it, or none."""
    folder.mkdir()
    if labels is not None:
        LabelForecast(labels=labels, gains=(GAIN,)).write(folder / FORECAST_FILE)
    return SimpleNamespace(uri=str(folder))


@pytest.mark.parametrize(("baseline", "control", "found"), [(7, 8, 7), (None, 8, 8), (7, None, 7), (None, None, None)])
def test_the_baselines_own_comes_first(
    tmp_path: Path, baseline: int | None, control: int | None, found: int | None
) -> None:
    outputs = [("control", output(tmp_path / "c", control)), ("baseline", output(tmp_path / "b", baseline))]
    told = _forecast(outputs, INGESTED)
    assert (None if told is None else told.labels) == found


def test_a_control_that_is_the_baseline_has_it(tmp_path: Path) -> None:
    told = _forecast([("teacher", output(tmp_path / "t", 5)), ("control", output(tmp_path / "c", 8))], INGESTED)
    assert told == LabelForecast(labels=8, gains=(GAIN,))


def test_images_in_groups_have_no_forecast(tmp_path: Path) -> None:
    outputs = [("baseline", output(tmp_path / "b", 7))]
    told = _forecast(outputs, INGESTED.model_copy(update={"grouped": True}))
    assert told is not None
    assert (told.labels, told.gains) == (7, ())
    assert (told.unknown or "").startswith("the images come in groups")


def test_a_file_that_cannot_be_read_costs_the_page_its_forecast_alone(tmp_path: Path) -> None:
    artifact = output(tmp_path / "b", 7)
    (tmp_path / "b" / FORECAST_FILE).write_text('{"format": "of another version"}')
    assert _forecast([("baseline", artifact)], INGESTED) is None
