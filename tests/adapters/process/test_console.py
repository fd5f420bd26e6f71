"""The console: what a user has named is shown as it is."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys

import pytest

from selftrain.adapters.process import console
from selftrain.cli.shared import options
from selftrain.report.summary import summary
from selftrain.selflabel.rounds.history import Round, Verdict
from selftrain.selflabel.rounds.record import RunRecord

TRICKY = "[red]x[/red] [/oops] :smile:"


def record() -> RunRecord:
    """A run of whose classes one is called TRICKY; so is its table of files left out."""
    one = Round(
        index=1,
        backbone=TRICKY,
        labeled=2,
        threshold=f"per class: {TRICKY} 0.5",
        validation_accuracy=0.5,
        validation_metric=0.5,
        kept=True,
        seconds=1,
        model_digest="m",
    )
    return RunRecord(
        run_id="r",
        name="tricky",
        status="completed",
        verdict=Verdict.PASSED,
        rounds=(one,),
        quarantined=1,
        quarantine_table=f"{TRICKY}.csv",
        warnings=(f"class {TRICKY} has 1 image",),
        findings=(f"{TRICKY} is hard",),
    )


def test_a_summary_shows_class_and_file_names_in_square_brackets_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options.print_rich(summary(record()))
    assert capsys.readouterr().out.count(TRICKY) == 5
    errors = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", errors)
    console.show(summary(record()))
    assert errors.getvalue().count(TRICKY) == 5
    console.show(TRICKY)
    assert errors.getvalue().endswith(f"{TRICKY}\n")


ON_A_TERMINAL = """
import sys
from selftrain.adapters.process.console import progress
with progress(sys.argv[1]) as show:
    show(1, 2, sys.argv[1])
"""


def everything_on(terminal: int) -> str:
    """What was written to the other side of `terminal`, which is closed; a read may give any part of it."""
    parts = []
    with contextlib.suppress(OSError):  # how Linux says that there is no more
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_progress_bar_shows_names_in_square_brackets_as_they_are_and_leaves_stdout_alone() -> None:
    terminal, inside = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, TRICKY]
    able = {**os.environ, "TERM": "xterm"}  # a dumb one is shown no bar
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=inside, env=able, timeout=60, check=True)
    os.close(inside)  # what was written stays readable
    text = everything_on(terminal)
    assert done.stdout == b""
    assert text.count(TRICKY) >= 2


LOGS = """
import logging
from rich.console import Console
from selftrain.adapters.runs.live import live_view
with live_view(Console(stderr=True)):
    logging.getLogger("a_library").warning("a library warns")
print("{}")
"""


def test_what_a_library_logs_during_a_run_leaves_stdout_to_the_result() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "{}\n"
    assert "a library warns" in done.stderr
