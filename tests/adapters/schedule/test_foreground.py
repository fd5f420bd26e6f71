"""The foreground: a clock that the tests set, real processes, and the end of it all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from selftrain.adapters.schedule.foreground import LONGEST_WAIT_S, is_kept, keep
from selftrain.adapters.schedule.history import runs_of
from selftrain.adapters.schedule.store import Entry, file_of, schedule_of, schedules
from selftrain.errors import InputError, ScheduleError

Planned = Callable[..., Entry]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TRIES, PAUSE_S = 1000, 0.02
KEEP = "import sys; from selftrain.cli.app import main; sys.argv = ['selftrain', *sys.argv[1:]]; main()"


class Clock:
    """A clock that stands at each of some moments in turn, then ends the process that looks at it."""

    def __init__(self, *moments: datetime) -> None:
        self.moments = list(moments)
        self.waited: list[float] = []

    def now(self) -> datetime:
        return self.moments[0]

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        del self.moments[0]
        if not self.moments:
            raise KeyboardInterrupt


def kept(workspace: Path, *moments: datetime) -> tuple[list[str], Clock]:
    clock, said = Clock(*moments), list[str]()
    with pytest.raises(KeyboardInterrupt):
        keep(workspace, say=said.append, now=clock.now, wait=clock.wait)
    return said, clock


def hours(*after_noon: float) -> list[datetime]:
    return [NOON + timedelta(hours=each) for each in after_noon]


def test_each_night_runs_once_and_a_failing_one_does_not_end_the_loop(workspace: Path, planned: Planned) -> None:
    planned(command=("sh", "-c", "exit 3"))
    said, _ = kept(workspace, *hours(0, 14.9, 15, 15.1, 38, 39, 40))
    assert [run.exit_code for run in runs_of(workspace)] == [3, 3]
    assert said[0] == "pets: 0 3 * * * UTC, next at 2026-06-02 03:00 UTC"
    assert [line for line in said if "failed (exit code 3)" in line] == said[1:]
    assert len(said) == 3


def test_nights_missed_while_nothing_ran_are_made_up_once(workspace: Path, planned: Planned) -> None:
    planned()
    kept(workspace, *hours(24 * 5, 24 * 5 + 0.1, 24 * 5 + 14))
    assert len(runs_of(workspace)) == 1


def test_a_clock_that_jumps_back_repeats_no_night(workspace: Path, planned: Planned) -> None:
    planned()
    kept(workspace, *hours(15, 13, 15, 16, 39))
    assert len(runs_of(workspace)) == 2


def test_it_waits_until_the_next_time_and_never_long(workspace: Path, planned: Planned) -> None:
    planned()
    _, clock = kept(workspace, *hours(0), NOON + timedelta(hours=15, seconds=-9), *hours(15))
    assert clock.waited == [LONGEST_WAIT_S, 9.0, LONGEST_WAIT_S]


def test_schedules_that_others_start_are_left_to_them(workspace: Path, planned: Planned) -> None:
    planned(starter="crontab")
    kept(workspace, *hours(24))
    assert runs_of(workspace) == ()


def test_a_schedule_that_is_added_while_it_runs_is_kept_too(workspace: Path, planned: Planned) -> None:
    clock = Clock(*hours(0, 1, 15))
    ended = clock.wait

    def add_then_wait(seconds: float) -> None:
        planned("cats")
        ended(seconds)

    with pytest.raises(KeyboardInterrupt):
        keep(workspace, say=lambda _: None, now=clock.now, wait=add_then_wait)
    assert [run.schedule for run in runs_of(workspace)] == ["cats"]


def test_a_disk_that_takes_nothing_is_said_and_looked_at_again(workspace: Path, planned: Planned) -> None:
    planned()
    (workspace / "logs").write_text("a file where the folder of the logs belongs")
    said, clock = kept(workspace, *hours(15, 15.1))
    assert "nothing could be started: Not a directory" in said[1]
    assert len(clock.waited) == 2


def test_two_processes_do_not_keep_one_workspace(workspace: Path, planned: Planned) -> None:
    planned()
    clock = Clock(NOON)

    def second(_: float) -> None:
        assert is_kept(workspace)
        with pytest.raises(ScheduleError, match="another process keeps the schedules"):
            keep(workspace, say=lambda _: None, now=clock.now, wait=clock.wait)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(workspace, say=lambda _: None, now=clock.now, wait=second)
    assert not is_kept(workspace)


def test_a_file_that_is_damaged_while_it_runs_is_said_until_it_is_mended(workspace: Path, planned: Planned) -> None:
    planned()
    clock, said = Clock(*hours(0, 15, 16)), list[str]()

    def damage_then_mend(seconds: float) -> None:
        if len(clock.moments) == 3:
            file_of(workspace).write_text("{")
        else:
            file_of(workspace).unlink(missing_ok=True)
            planned()
        clock.wait(seconds)

    with pytest.raises(KeyboardInterrupt):
        keep(workspace, say=said.append, now=clock.now, wait=damage_then_mend)
    assert "mend it" in said[1]
    assert len(runs_of(workspace)) == 1


def test_a_damaged_file_is_one_line_at_the_start(workspace: Path, planned: Planned) -> None:
    planned()
    file_of(workspace).write_text("{")
    with pytest.raises(InputError, match="mend it"):
        keep(workspace, say=lambda _: None)
    assert not is_kept(workspace)


def test_sigterm_ends_it_and_the_run_that_goes_on(workspace: Path, planned: Planned, tmp_path: Path) -> None:
    command = ("sh", "-c", "trap 'touch saved; exit 5' TERM; touch began; while :; do sleep .02; done")
    planned(command=command, since=NOON - timedelta(days=400))
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP, "schedule", "--foreground", "--workspace", str(workspace)],
        cwd=Path(__file__).resolve().parents[3],
        stderr=subprocess.PIPE,
    )
    for _ in range(TRIES):
        if (tmp_path / "began").exists():
            break
        time.sleep(PAUSE_S)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert (tmp_path / "saved").exists()
    (run,) = runs_of(workspace)
    assert run.failed
    assert not schedule_of(workspace, "pets").armed
    assert not is_kept(workspace)
    assert len(schedules(workspace)) == 1
