"""Schedules and alerters of ZenML, on a real store with a stack that runs elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain.adapters.schedule import zenml

ROOT = Path(__file__).resolve().parents[3]


def test_where_zenml_was_never_used_its_schedules_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.chdir(tmp_path)
    assert not zenml.runs()
    assert not (tmp_path / "zenml").exists()


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_stack_with_schedules_and_an_alerter_gets_both(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_LOGGING_VERBOSITY": "ERROR",
    }
    command = [sys.executable, "-m", "tests.adapters.schedule.elsewhere"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    answers = json.loads(ended.stdout.splitlines()[-1])
    forbid = {"concurrency_policy": "Forbid", "starting_deadline_seconds": 21600}
    assert (answers["default"], answers["night"]) == (False, True)
    assert answers["kubernetes"] == {"orchestrator.kubernetes": forbid}
    assert "give --time-zone UTC" in answers["zone"]
    assert answers["schedules"] == [["pets", "0 4 * * *"]]
    assert answers["notes"] == [
        {"cron": "0 3 * * *", **forbid},
        {"deleted": "pets"},
        {"cron": "0 4 * * *", **forbid},
        {"active": False},
        {"deleted": "pets"},
    ]
    assert answers["left"] == 0
    told = answers["told"]
    assert told["said"] == "selftrain: a run failed (run=abc)"
    assert told["by"] == ["alerter", "alerter"]
    assert told["errors"] == [None, "the alerter 'board' did not post"]
