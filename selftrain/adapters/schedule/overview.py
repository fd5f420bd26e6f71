"""The overview of schedules: what is next, what ran last, and what is wrong."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.schedule.arranging import is_held
from selftrain.adapters.schedule.foreground import is_kept
from selftrain.adapters.schedule.history import ScheduledRun, runs_of
from selftrain.adapters.schedule.starting import goes_on
from selftrain.adapters.schedule.store import Entry, Starter, schedules

State = Literal["on", "paused", "not started", "missing"]
"""`not started`: no process keeps the foreground's schedules. `missing`: cron or systemd has lost it."""


class Overview(BaseModel):
    """One schedule, as `selftrain schedule list` shows it."""

    model_config = ConfigDict(frozen=True)

    name: str
    cron: str
    time_zone: str
    config: str | None
    starter: Starter
    state: State
    next: datetime | None
    follows: bool
    running: bool
    last: ScheduledRun | None

    @property
    def advice(self) -> str | None:
        """What to do about the state, where there is something to do."""
        match self.state:
            case "not started":
                return f"{self.name}: nothing starts it; keep `selftrain schedule --foreground` running"
            case "missing":
                return f"{self.name}: {self.starter} has lost its entry; add it again, or `schedule remove` it"
            case "on" | "paused":
                return None


def overview(workspace: Path, now: datetime) -> tuple[Overview, ...]:
    """Every schedule of `workspace` at `now`, by name."""
    last = {run.schedule: run for run in runs_of(workspace)}
    busy = goes_on(workspace)
    return tuple(_one(entry, workspace, now, last.get(entry.name), busy=busy) for entry in schedules(workspace))


def local(moment: datetime, time_zone: str) -> str:
    """`moment` as a clock in `time_zone` shows it."""
    return moment.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m-%d %H:%M %Z")


def _one(entry: Entry, workspace: Path, now: datetime, last: ScheduledRun | None, *, busy: bool) -> Overview:
    state = _state(entry, workspace)
    return Overview(
        **entry.model_dump(include={"name", "cron", "time_zone", "config", "starter"}),
        state=state,
        next=entry.times.after(now) if state == "on" else None,
        follows=entry.armed,
        running=busy and last is not None and last.ended is None,
        last=last,
    )


def _state(entry: Entry, workspace: Path) -> State:
    if entry.paused:
        return "paused"
    if not is_held(entry, workspace):
        return "missing"
    return "not started" if entry.starter == "foreground" and not is_kept(workspace) else "on"
