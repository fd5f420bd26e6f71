"""Run locks: a living process holds its lock, a killed one lets go of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from selftrain.adapters import run_lock

HOLDER = """
import sys, time
from pathlib import Path
from selftrain.adapters.run_lock import hold
with hold(Path(sys.argv[1]), "run-1"):
    print("held", flush=True)
    time.sleep(60)
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
