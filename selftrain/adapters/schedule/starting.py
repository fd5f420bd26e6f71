"""Starting: an armed schedule becomes a process of its own, one at a time in a workspace.

Whoever wants a run arms its schedule, then starts what is armed. If a run is going on, the process that waits for it
starts the next one: however often a schedule was armed meanwhile, one more run follows.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from selftrain.adapters.notices.sending import notify
from selftrain.adapters.schedule.history import ScheduledRun, new_log, note, runs_of
from selftrain.adapters.schedule.store import Entry, clock, schedules, update
from selftrain.config import Experiment
from selftrain.config.text.file import read_experiment
from selftrain.errors import SelftrainError
from selftrain.files.locks import is_abandoned, wait_for_lock

GRACE_S = 60.0
"""How long a run may take to end after it was asked to."""


def start_armed(workspace: Path) -> tuple[ScheduledRun, ...]:
    """Run every armed schedule, one after another, and return those runs, ended. Empty if another process does it."""
    ended: list[ScheduledRun] = []
    path = _lock(workspace)
    while _armed(workspace) is not None:
        lock = wait_for_lock(path)  # who only asks whether a run goes on holds it for a moment
        if lock is None:
            break
        try:
            _note_unseen_ends(workspace)
            while (entry := _armed(workspace)) is not None:
                ended.append(_run(entry, workspace, lock))
        finally:
            os.close(lock)
    return tuple(ended)


def goes_on(workspace: Path) -> bool:
    """Whether a scheduled run is going on."""
    path = _lock(workspace)
    return path.exists() and not is_abandoned(path)


def _armed(workspace: Path) -> Entry | None:
    """The armed schedule that waited longest."""
    armed = [entry for entry in schedules(workspace) if entry.armed]
    return min(armed, key=lambda entry: (entry.since, entry.name), default=None)


def _run(entry: Entry, workspace: Path, lock: int) -> ScheduledRun:
    """Run `entry` to its end. Its process keeps `lock`, also if this one is killed."""
    started = clock()
    log = new_log(workspace, entry.name, started)
    run = ScheduledRun(schedule=entry.name, started=started, log=str(log))
    note(workspace, run)
    code: int | None = None
    update(workspace, entry.name, armed=False)
    try:
        code = _process(entry, log, lock)
    finally:
        run = run.model_copy(update={"ended": clock(), "exit_code": code})
        note(workspace, run)
    _tell_of_death(entry, run, workspace)
    return run


def _process(entry: Entry, log: Path, lock: int) -> int | None:
    """The exit code of `entry`'s command; None if it cannot be started, which its log then says."""
    with log.open("wb") as said:
        try:
            process = subprocess.Popen(
                entry.command,
                cwd=entry.folder,
                env={**os.environ, **entry.environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        except OSError as error:
            said.write(f"{entry.command[0]} cannot be started in {entry.folder}: {error.strerror}\n".encode())
            return None
        return _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except BaseException:  # Ctrl-C, or a request to end: the run saves its state and ends too
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _tell_of_death(entry: Entry, run: ScheduledRun, workspace: Path) -> None:
    """Send the notice `failed` for a run that was killed or did not start, as its configuration says; never raises."""
    reason = cause_of(run.exit_code)
    if reason is None:
        return
    try:
        experiment = Experiment() if entry.config is None else read_experiment(Path(entry.config))
    except SelftrainError:
        return  # it names nobody
    facts = {"experiment": entry.name, "reason": reason, "log": run.log}
    notify("failed", facts, settings=experiment.notify, record=workspace / "notices.jsonl")


def cause_of(exit_code: int | None) -> str | None:
    """Why a run ended without a word of its own; None if it could say so itself.

    >>> cause_of(-9)
    'the run was killed (SIGKILL)'
    """
    if exit_code is None:
        return "the run could not be started"
    return f"the run was killed ({signal.Signals(-exit_code).name})" if exit_code < 0 else None


def _note_unseen_ends(workspace: Path) -> None:
    """Close the lines of runs whose starter was killed: who holds the lock knows that they have ended."""
    for run in runs_of(workspace):
        if run.ended is None:
            note(workspace, run.model_copy(update={"ended": clock()}))


def _lock(workspace: Path) -> Path:
    return workspace / "locks" / "scheduled-run"
