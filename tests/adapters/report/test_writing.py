"""Writing the page: what goes wrong is a warning, and never an error of the run."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

CODE = """
import sys
from pathlib import Path
from selftrain.adapters.report.writing import logged_page
from selftrain.adapters.tracking.store import open_tracking
from selftrain.selflabel.rounds.record import RunRecord
tracking = open_tracking(Path(sys.argv[1]), stack=lambda: None)
print(logged_page(tracking, RunRecord(run_id=sys.argv[2], name="<b>", status="completed")))
"""


def test_a_page_that_cannot_be_written_is_a_warning_that_says_what_to_do(tmp_path: Path) -> None:
    run_id = str(uuid.uuid4())  # of no run
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "workspace"), run_id],
        env={**os.environ, "ZENML_CONFIG_PATH": str(tmp_path / "zenml")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"`selftrain report {run_id}` tries again" in done.stdout
    assert "the page about the run was not written" in done.stderr
