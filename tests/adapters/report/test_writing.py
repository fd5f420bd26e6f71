"""Writing the page: what goes wrong is a warning, and never an error of the run."""

import logging
import uuid
from pathlib import Path

import pytest

from selftrain.adapters.report.writing import logged_page
from selftrain.adapters.tracking.store import open_tracking
from selftrain.selflabel.rounds.record import RunRecord

pytestmark = [pytest.mark.pipeline]


def test_a_page_that_cannot_be_written_is_a_warning_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    run_id = str(uuid.uuid4())  # of no run
    tracking = open_tracking(tmp_path / "workspace", stack=lambda: None)
    with caplog.at_level(logging.WARNING):
        page = logged_page(tracking, RunRecord(run_id=run_id, name="<b>", status="completed"))
    assert f"selftrain report {run_id}" in page
    assert f"selftrain report {run_id}" in caplog.text
