import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from selftrain.data.workers import run_tasks
from selftrain.errors import SelftrainError

JOBS = """
import os, time
def note(folder, name, seconds=0.0):
    with open(os.path.join(folder, name), "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)
def end(parent):
    time.sleep(0.2)
    if os.getpid() != parent:
        os._exit(7)
    time.sleep(1)
def fail(parent):
    time.sleep(0.2)
    if os.getpid() != parent:
        raise ValueError("no such thing")
    time.sleep(1)
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "jobs_of_a_test.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "jobs_of_a_test"


def test_every_task_is_done_once_and_by_several_processes(jobs: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tasks = [{"folder": str(out), "name": str(number), "seconds": 0.3} for number in range(12)]
    assert sorted(run_tasks(f"{jobs}:note", tasks, workers=2)) == list(range(12))
    pids = {(out / str(number)).read_text() for number in range(12)}
    assert str(os.getpid()) in pids
    assert len(pids) == 2


@pytest.mark.parametrize(("name", "message"), [("end", "ended with code 7"), ("fail", "ValueError: no such thing")])
def test_a_worker_that_fails_is_an_error_not_a_hang(jobs: str, name: str, message: str) -> None:
    with pytest.raises(SelftrainError, match=message):
        list(run_tasks(f"{jobs}:{name}", [{"parent": os.getpid()}] * 4, workers=2))


def test_workers_end_when_their_parent_is_killed(jobs: str, tmp_path: Path) -> None:
    script = (
        "from selftrain.data.workers import run_tasks\n"
        f"tasks = [dict(folder={str(tmp_path)!r}, name=f'pid{{n}}', seconds=1.0) for n in range(2)] * 50\n"
        f"list(run_tasks('{jobs}:note', tasks, workers=2))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        children = _wait_for(lambda: psutil.Process(parent.pid).children(recursive=True))
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) >= 1
    assert alive == []


def _wait_for(find, timeout_s: float = 30.0) -> list[psutil.Process]:
    end = time.monotonic() + timeout_s
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("module", ["selftrain.data.ingest.chunks", "selftrain.data.store.pixels"])
def test_what_a_worker_imports_does_not_bring_pyarrow(module: str) -> None:
    """It would take longer to import than a chunk to read."""
    code = f"import sys, {module}; raise SystemExit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
