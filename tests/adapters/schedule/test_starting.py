"""Starting: real processes, one at a time, each recorded; what arrives meanwhile follows once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from selftrain.adapters.schedule.history import LOGS_KEPT, ScheduledRun, new_log, note, runs_of
from selftrain.adapters.schedule.starting import goes_on, start_armed
from selftrain.adapters.schedule.store import Entry, schedule_of, update
from selftrain.files.locks import take_new

Planned = Callable[..., Entry]
TRIES, PAUSE_S = 1000, 0.02


def until(done: Callable[[], bool]) -> None:
    for _ in range(TRIES):
        if done():
            return
        time.sleep(PAUSE_S)
    raise AssertionError("it did not happen")


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def test_a_run_is_a_process_of_its_own_whose_start_end_and_words_are_recorded(
    workspace: Path, planned: Planned, tmp_path: Path
) -> None:
    script = "echo in $PWD, group $(ps -o pgid= -p $$), $MORE; echo problem >&2"
    planned(armed=True, command=shell(script), environment={"MORE": "more"})
    (run,) = start_armed(workspace)
    assert (run.exit_code, run.schedule) == (0, "pets")
    assert run.ended is not None
    assert run.started <= run.ended
    said = Path(run.log).read_text()
    assert f"in {tmp_path}, group " in said
    assert str(os.getpgid(0)) not in said.split("group")[1]
    assert "more\nproblem\n" in said
    assert runs_of(workspace) == (run,)
    assert start_armed(workspace) == ()


def test_a_run_that_fails_is_recorded_and_the_next_one_starts(workspace: Path, planned: Planned) -> None:
    planned(armed=True, command=shell("exit 7"))
    (failed,) = start_armed(workspace)
    assert (failed.exit_code, failed.failed) == (7, True)
    update(workspace, "pets", armed=True, command=("true",))
    assert [run.exit_code for run in start_armed(workspace)] == [0]
    assert [run.exit_code for run in runs_of(workspace)] == [7, 0]


@pytest.mark.parametrize("given", [{"command": ("/no/such/program",)}, {"folder": "/no/such/folder"}])
def test_a_command_that_cannot_start_is_a_failed_run_whose_log_says_why(
    workspace: Path, planned: Planned, given: dict[str, object]
) -> None:
    planned(armed=True, **given)
    (run,) = start_armed(workspace)
    assert (run.exit_code, run.failed) == (None, True)
    assert "cannot be started" in Path(run.log).read_text()
    assert not schedule_of(workspace, "pets").armed


def test_however_often_it_is_asked_for_during_a_run_one_more_follows(
    workspace: Path, planned: Planned, tmp_path: Path
) -> None:
    planned(armed=True, command=shell("touch began; while [ ! -e go ]; do sleep .01; done"))
    ended: list[tuple[ScheduledRun, ...]] = []
    thread = threading.Thread(target=lambda: ended.append(start_armed(workspace)))
    thread.start()
    until((tmp_path / "began").exists)
    for _ in range(3):
        update(workspace, "pets", armed=True)
        assert start_armed(workspace) == ()
        assert goes_on(workspace)
    (tmp_path / "go").touch()
    thread.join()
    assert [run.exit_code for run in ended[0]] == [0, 0]
    assert not goes_on(workspace)


def test_two_schedules_at_once_run_one_after_the_other(workspace: Path, planned: Planned) -> None:
    script = "mkdir alone || exit 9; sleep .1; rmdir alone"
    for name in ("cats", "pets"):
        planned(name, armed=True, command=shell(script))
    threads = [threading.Thread(target=start_armed, args=(workspace,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((run.schedule, run.exit_code) for run in runs_of(workspace)) == [("cats", 0), ("pets", 0)]


def test_a_run_outlives_its_killed_starter_and_keeps_others_from_starting(
    workspace: Path, planned: Planned, tmp_path: Path
) -> None:
    planned(armed=True, command=shell("touch began; while [ ! -e go ]; do sleep .01; done"))
    code = "import sys; from pathlib import Path; from selftrain.adapters.schedule.starting import start_armed; "
    starter = subprocess.Popen([sys.executable, "-c", f"{code}start_armed(Path(sys.argv[1]))", str(workspace)])
    until((tmp_path / "began").exists)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    update(workspace, "pets", armed=True, command=("true",))
    assert start_armed(workspace) == ()
    (tmp_path / "go").touch()
    until(lambda: not goes_on(workspace))
    (after,) = start_armed(workspace)
    killed, last = runs_of(workspace)
    assert (killed.exit_code, killed.failed, last) == (None, True, after)
    assert after.exit_code == 0


def test_a_torn_line_of_the_history_is_left_out(workspace: Path) -> None:
    run = ScheduledRun(schedule="pets", started=datetime(2026, 6, 1, tzinfo=UTC), log="a.log")
    note(workspace, run)
    history = workspace / "logs" / "schedule" / "runs.jsonl"
    history.write_bytes(history.read_bytes() + b'{"schedule": "pe\n\xff\n')
    assert runs_of(workspace) == (run,)


def test_only_the_newest_logs_are_kept(workspace: Path) -> None:
    for day in range(1, 31):
        new_log(workspace, "pets", datetime(2026, 5, day, tzinfo=UTC)).touch()
    for _ in range(3):
        new_log(workspace, "pets", datetime(2026, 6, 1, tzinfo=UTC)).touch()
    names = sorted(path.name for path in (workspace / "logs" / "schedule" / "pets").iterdir())
    assert len(names) == LOGS_KEPT
    assert names[0].startswith("2026-05-04")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (shell("kill -9 $$"), "the run was killed (SIGKILL)"),
        (("/no/such/program",), "the run could not be started"),
        (shell("exit 1"), None),
    ],
)
def test_people_are_told_of_a_run_that_could_not_tell_them(
    workspace: Path, planned: Planned, tmp_path: Path, command: tuple[str, ...], said: str | None
) -> None:
    (tmp_path / "tell").write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    (tmp_path / "tell").chmod(0o755)
    notify = {"command": str(tmp_path / "tell"), "alerter": False}
    config = tmp_path / "pets.yaml"
    config.write_text(yaml.safe_dump({"parameters": {"experiment": {"name": "pets", "notify": notify}}}))
    planned(armed=True, command=command, config=str(config))
    (run,) = start_armed(workspace)
    told = json.loads((tmp_path / "told").read_text()) if (tmp_path / "told").exists() else None
    assert (told["facts"] if told else None) == (
        {"experiment": "pets", "reason": said, "log": run.log} if said is not None else None
    )


def test_a_configuration_that_is_gone_tells_nobody_and_fails_nothing(workspace: Path, planned: Planned) -> None:
    planned(armed=True, command=("/no/such/program",), config="/no/such.yaml")
    assert [run.failed for run in start_armed(workspace)] == [True]
    assert not (workspace / "notices.jsonl").exists()


def test_a_lock_that_is_held_for_a_moment_keeps_no_run_from_starting(workspace: Path, planned: Planned) -> None:
    planned(armed=True)
    held = take_new(workspace / "locks" / "scheduled-run")  # as by one who asks whether a run goes on
    thread = threading.Timer(0.25, os.close, args=(held,))
    thread.start()
    assert len(start_armed(workspace)) == 1
    thread.join()
