"""Run locks: a living process holds its lock, a killed one lets go of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain.adapters.runs import run_lock

HOLDER = """
import sys, time
from pathlib import Path
from selftrain.adapters.runs.run_lock import hold
with hold(Path(sys.argv[1]), "run-1"):
    print("held", flush=True)
    time.sleep(60)
"""

TIDY = """
import json, sys
from pathlib import Path
from selftrain.adapters.runs import run_lock
folder = Path(sys.argv[1])
dead, ended = run_lock.dead_runs(folder), run_lock.end_dead_runs(folder)
run_lock.forget(folder, ended)
print(json.dumps([dead, ended, run_lock.dead_runs(folder)]))
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_a_run_that_lives_is_not_dead(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        assert run_lock.dead_runs(tmp_path) == []
    finally:
        process.kill()
        process.communicate()


def test_a_run_killed_with_sigkill_is_dead(tmp_path: Path) -> None:
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert run_lock.dead_runs(tmp_path) == ["run-1"]


def test_a_run_that_ended_leaves_no_lock(tmp_path: Path) -> None:
    with run_lock.hold(tmp_path, "run-2"):
        assert (tmp_path / "run-2.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ended_while_a_store_could_not_be_told_counts_as_dead(tmp_path: Path) -> None:
    with run_lock.hold(tmp_path, "run-3") as lock:
        lock.owed = True
        assert run_lock.dead_runs(tmp_path) == []
    assert run_lock.dead_runs(tmp_path) == ["run-3"]


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_dead_run_that_this_store_does_not_hold_keeps_its_lock(tmp_path: Path) -> None:
    run_id = "5a1f0c6e-7d0b-4e0c-9a55-3a3c1b2d4e5f"
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / f"{run_id}.lock").touch()
    store = {
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-c", TIDY, str(tmp_path / "locks")],
        env={**os.environ, **store},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().rpartition("\n")[2]) == [[run_id], [], [run_id]]
