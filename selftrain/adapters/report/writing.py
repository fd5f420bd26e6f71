"""Writing: the page about a run as MLflow and ZenML keep it. A page that cannot be made never fails a run."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from markupsafe import escape

from selftrain.adapters.report.gathering import gathered
from selftrain.adapters.tracking.runs import find_run
from selftrain.adapters.tracking.store import Tracking, quiet
from selftrain.report.page.run import run_page, with_height
from selftrain.selflabel.rounds.record import RunRecord

PAGE = "report.html"
HEIGHT = "60rem"
"""ZenML's dashboard measures no page: without a height of its own, it would be cut off."""
_LOG = logging.getLogger(__name__)


def logged_page(tracking: Tracking, record: RunRecord) -> str:
    """Log the page about a run to its MLflow run, and return it as HTML of a fixed height.

    Whatever goes wrong becomes a warning, and the HTML says it: the run itself is complete.
    """
    try:
        page = run_page(gathered(record))
        _log(tracking, record.run_id, page)
        return with_height(page, HEIGHT)
    except Exception as error:
        told = f"the page about the run was not written: {error}; `selftrain report {record.run_id}` tries again"
        _LOG.warning(told)
        return f"<!doctype html><title>No report</title><p>{escape(told)}</p>"


def _log(tracking: Tracking, run_id: str, page: str) -> None:
    mlflow_id = find_run(tracking, run_id)
    if mlflow_id is None:
        return
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / PAGE
        path.write_text(page, encoding="utf-8")
        tracking.client.log_artifact(mlflow_id, str(path))
