"""How long does `selftrain retrain` take where nothing is due, beside ZenML's command for a run that is all cached?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.photos import SkippedError
from benchmarks.record import Check, Result
from benchmarks.timing import as_json, in_turns, median

SECONDS, RATIO, REPETITIONS = 8.0, 3.0, 3
CONFIG = """\
parameters:
  experiment:
    name: digits
    inbox: {{url: {inbox}}}
"""
RETRAIN = "from selftrain.cli.app import main; main()"
ZENML = ["pipeline", "run", "ssl_pipeline", "--config", "configs/digits.yaml", "--stack", "default"]


def measure(*, quick: bool) -> Result:
    """Both in turns, in the folder of the repository, where `make run` was run."""
    if not (ROOT / ".selftrain/mlflow/mlflow.db").is_file():
        raise SkippedError("the repository's folder has no workspace; `make run` makes one")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "not_due.yaml"
        config.write_text(CONFIG.format(inbox=folder))
        cached = [str(Path(sys.executable).with_name("zenml")), *ZENML]
        not_due = [sys.executable, "-c", RETRAIN, "retrain", "--config", str(config)]
        calls: dict[str, Callable[[], object]] = {
            "cached run": partial(_run, cached, ""),
            "not due": partial(_run, not_due, "not due: 0 new images"),
        }
        taken = in_turns(calls, repetitions=1 if quick else REPETITIONS)
    own, theirs = median(taken["not due"]).wall, median(taken["cached run"]).wall
    checks = (
        Check(what="selftrain retrain, nothing due", measured=own, relation="<", target=SECONDS, unit="s"),
        Check(what="a cached run by ZenML over it, seconds", measured=theirs / own, relation=">=", target=RATIO),
    )
    details: dict[str, JsonValue] = {"seconds": as_json(taken)}
    return Result(checks=checks, details=details)


def _run(command: list[str], expected: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.startswith(expected):
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
