"""How much processor time do `selftrain status`, `runs` and `history` take, beside the commit that asked ZenML?

Both ask the same stores: the workspace of the folder that this runs in, and ZenML's. Their answers must be equal.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.photos import SkippedError
from benchmarks.record import Check, Result
from benchmarks.timing import as_json, in_turns, median

BEFORE = "00915a9"  # the last commit whose queries load ZenML and MLflow
COMMANDS = ("status", "runs", "history")
SHARE = 1 / 3
REPETITIONS = 3
ENTRY = "from selftrain.cli.app import main; main()"


def measure(*, quick: bool) -> Result:
    """Each command by both, in turns."""
    if not Path(".selftrain/mlflow/mlflow.db").is_file():
        raise SkippedError("this folder has no workspace; `make run` makes one with a registered model")
    checks: list[Check] = []
    details: dict[str, JsonValue] = {"before": BEFORE}
    with tempfile.TemporaryDirectory() as folder:
        _unpack(BEFORE, Path(folder))
        for command in COMMANDS:
            calls: dict[str, Callable[[], str]] = {
                "before": partial(_answer, command, Path(folder)),
                "now": partial(_answer, command, ROOT),
            }
            if calls["before"]() != calls["now"]():
                raise RuntimeError(f"selftrain {command} answers otherwise than before")
            taken = in_turns(calls, repetitions=1 if quick else REPETITIONS)
            share = median(taken["now"]).cpu / median(taken["before"]).cpu
            what = f"selftrain {command}: processor time, now over before"
            checks.append(Check(what=what, measured=share, relation="<=", target=SHARE))
            details[command] = as_json(taken)
    return Result(checks=tuple(checks), details=details)


def _unpack(commit: str, folder: Path) -> None:
    """The tree of `commit`, in `folder`."""
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SkippedError(f"this clone lacks the commit {commit}, which the commands are compared with")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _answer(command: str, tree: Path) -> str:
    """What the command of the code in `tree` prints."""
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder) / "entry.py"
        entry.write_text(ENTRY)
        environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, str(entry), command], env=environment, capture_output=True, text=True, check=True
        )
    return done.stdout
