"""The foreground: a process that starts what is due for as long as it runs, where nothing else on the machine does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from selftrain.adapters.schedule.history import ScheduledRun
from selftrain.adapters.schedule.starting import start_armed
from selftrain.adapters.schedule.store import Entry, clock, look, schedules
from selftrain.errors import ScheduleError, SelftrainError
from selftrain.files.locks import is_abandoned, let_go, wait_for_lock

LONGEST_WAIT_S = 30.0
"""Seconds between two looks at the clock: it may be set, or the machine may sleep."""


def keep(
    workspace: Path,
    *,
    say: Callable[[str], None],
    now: Callable[[], datetime] = clock,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Start what is due in `workspace`, one run at a time, until the process is asked to end (Ctrl-C, SIGTERM).

    A run that fails is said and recorded, and the next time comes as always. Raises ScheduleError if another process
    keeps this workspace's schedules, and InputError if they cannot be read.
    """
    lock = wait_for_lock(_lock(workspace))
    if lock is None:
        raise ScheduleError(f"another process keeps the schedules of {workspace}; `selftrain schedule list` shows them")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _announce(workspace, say, now())
        while True:
            wait(_once(workspace, say, now))
    finally:
        let_go(_lock(workspace), lock)


def is_kept(workspace: Path) -> bool:
    """Whether a process keeps the schedules of `workspace`."""
    path = _lock(workspace)
    return path.exists() and not is_abandoned(path)


def _once(workspace: Path, say: Callable[[str], None], now: Callable[[], datetime]) -> float:
    """One look; returns the seconds until the next. A full disk or a damaged file is said, and looked at again."""
    try:
        look(workspace, tuple(entry.name for entry in _kept(workspace)), now())
        for run in start_armed(workspace):
            say(ending(run))
        return _pause(workspace, now())
    except OSError as error:
        say(f"nothing could be started: {error.strerror}; the next look is in {LONGEST_WAIT_S:g} s")
    except SelftrainError as error:
        say(error.message)
    return LONGEST_WAIT_S


def ending(run: ScheduledRun) -> str:
    """How a run ended, in one line."""
    how = "ended well" if not run.failed else f"failed (exit code {run.exit_code})"
    return f"{run.schedule}: the run of {run.started:%Y-%m-%d %H:%M} UTC {how}; log: {run.log}"


def _announce(workspace: Path, say: Callable[[str], None], now: datetime) -> None:
    for entry in _kept(workspace):
        state = "paused" if entry.paused else f"next at {entry.times.after(now):%Y-%m-%d %H:%M} UTC"
        say(f"{entry.name}: {entry.cron} {entry.time_zone}, {state}")


def _pause(workspace: Path, now: datetime) -> float:
    """Seconds until the next look, at least one."""
    waits = [(entry.times.after(now) - now).total_seconds() for entry in _kept(workspace) if not entry.paused]
    return max(1.0, min([LONGEST_WAIT_S, *waits]))


def _kept(workspace: Path) -> tuple[Entry, ...]:
    return tuple(entry for entry in schedules(workspace) if entry.starter == "foreground")


def _lock(workspace: Path) -> Path:
    return workspace / "locks" / "schedules-kept"
