"""Process locks: a run of a dead process is ended though it left no lock of its own, and no other run is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.pipeline]

TINY = """
import json, os, signal, socket, sys, time
from zenml import pipeline
from zenml.client import Client
from selftrain.adapters.runs import process_lock, records

@pipeline(dynamic=True, name=records.PIPELINES[0])
def tiny(how: str) -> None:
    if how == "lives":
        print("it lives", flush=True)
        time.sleep(600)
    if how != "ends":
        os.kill(os.getpid(), signal.SIGKILL)

def states():
    runs = Client().list_pipeline_runs(size=100, sort_by="asc:created").items
    return {str(run.id): run.status.value for run in runs}

if __name__ == "__main__":
    how = sys.argv[1]
    if how == "look":
        before = states()
        print(json.dumps({"before": before, "ended": process_lock.end_orphaned_runs(), "after": states()}))
    elif how == "submitted":
        from tests.adapters.runs.later import add_stack
        add_stack()
        Client().activate_stack("later")
        tiny.with_options(extra=process_lock.process_tag())("ends")
        Client().activate_stack("default")
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "runs":
        print(json.dumps([len(records.latest_runs(count)) for count in (1, 3, 100)]))
    else:
        if how == "elsewhere":
            socket.gethostname = lambda: "elsewhere"
        tiny.with_options(extra={} if how == "unsigned" else process_lock.process_tag())(how)
"""


class Store:
    """ZenML's store in a folder, and a pipeline that ends in many ways."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "tiny.py"
        self.script.write_text(TINY)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ZENML_CONFIG_PATH": str(folder / "zenml"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_LOGGING_VERBOSITY": "ERROR",
        }

    def start(self, how: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.script), how],
            cwd=self.script.parent,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, how: str, ends: int = 0, **variables: str) -> str:
        """What the process that ran said last."""
        process = self.start(how, **variables)
        out, errors = process.communicate(timeout=300)
        assert process.returncode == ends, errors
        return out.strip().rpartition("\n")[2]

    def look(self) -> tuple[list[str], dict[str, str], dict[str, str]]:
        """Ids of the runs that are ended now, the states of all runs before, and after."""
        seen = json.loads(self.run("look"))
        return seen["ended"], seen["before"], seen["after"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.slow
def test_a_run_killed_before_it_had_a_lock_of_its_own_is_ended_and_a_living_one_is_not(store: Store) -> None:
    living = store.start("lives")
    try:
        assert living.stdout is not None
        while "it lives" not in living.stdout.readline():
            assert living.poll() is None
        store.run("killed", ends=-signal.SIGKILL)
        ended, before, after = store.look()
        assert list(before.values()) == ["running", "running"]
        assert ended == [list(before)[1]]
        assert list(after.values()) == ["running", "failed"]
        assert store.look()[0] == []
    finally:
        living.kill()
        living.communicate()
    ended, _, after = store.look()
    assert ended == [next(iter(after))]
    assert set(after.values()) == {"failed"}


@pytest.mark.slow
def test_runs_of_another_machine_on_another_orchestrator_or_without_a_name_are_left_alone(store: Store) -> None:
    store.run("ends")
    for how in ("elsewhere", "submitted", "unsigned"):
        store.run(how, ends=-signal.SIGKILL)
    ended, before, after = store.look()
    assert ended == []
    assert list(before.values()) == list(after.values()) == ["completed", "running", "provisioning", "running"]
    many = json.loads(store.run("runs", ZENML_PAGINATION_DEFAULT_LIMIT="2"))
    assert many == [1, 3, 4], "more runs are listed than ZenML gives at once"
