"""Runs read in ZenML's database: the same records as ZenML's, without loading it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import sys
from selftrain.cli import app
sys.argv = ["selftrain", *sys.argv[1:]]
try:
    app.main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"zenml", "mlflow", "tensorflow", "keras", "pandas", "great_expectations"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, Any]:
    """What tests/adapters/runs/small_runs.py printed."""
    done = python(home, "-m", "tests.adapters.runs.small_runs")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def python(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML_", "MLFLOW_"))}
    place = {"ZENML_CONFIG_PATH": str(home / "zenml"), "ZENML_ANALYTICS_OPT_IN": "false", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=home, env={**names, **place}, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_database_and_zenml_say_the_same_of_every_run(said: dict[str, Any]) -> None:
    assert said["before"] is False
    assert said["asked"].pop("kinds") is None, "ZenML itself was not asked"
    assert "orchestrator" in said["kinds"]
    assert said["read"] == said["asked"]
    bad, good = said["read"]["runs"]
    assert (bad["status"], bad["error"], [each["index"] for each in bad["rounds"]]) == (
        "failed",
        "the labels are gone",
        [0, 1],
    )
    assert (good["status"], good["verdict"], good["name"]) == ("completed", "passed", "good")
    assert said["read"]["workspaces"] == ["elsewhere", ".selftrain"]


@pytest.mark.parametrize("command", [("status", "--json"), ("status",), ("runs", "--json"), ("runs",)])
def test_the_commands_answer_without_loading_zenml(home: Path, said: dict[str, Any], command: tuple[str, ...]) -> None:
    shown = python(home, "-c", COMMAND, *command).stdout
    assert said["read"]["newest"][0] in shown
