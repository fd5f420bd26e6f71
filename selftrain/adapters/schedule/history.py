"""The history of a schedule: when its runs began and ended, a line each, and what they printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

LOGS_KEPT = 30


class ScheduledRun(BaseModel):
    """One run that a schedule started. Without `ended` it goes on; without `exit_code` its end was not seen."""

    model_config = ConfigDict(frozen=True)

    schedule: str
    started: AwareDatetime
    ended: AwareDatetime | None = None
    exit_code: int | None = None
    log: str

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well."""
        return self.ended is not None and self.exit_code != 0


def note(workspace: Path, run: ScheduledRun) -> None:
    """Append `run`: once when it starts, and once when it has ended."""
    path = _file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{run.model_dump_json()}\n".encode())
    finally:
        os.close(file)


def runs_of(workspace: Path) -> tuple[ScheduledRun, ...]:
    """Every run, in the order of their starts, each as its newest line says. A torn line is left out."""
    newest = {run.log: run for run in _lines(workspace)}
    return tuple(newest.values())


def new_log(workspace: Path, name: str, started: datetime) -> Path:
    """The path of a log for a run of schedule `name`. Its folder is made; only the newest logs stay in it."""
    folder = workspace / "logs" / "schedule" / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"))[: 1 - LOGS_KEPT]:
        old.unlink(missing_ok=True)
    stem = started.strftime("%Y-%m-%dT%H%M%SZ")
    taken = (folder / f"{stem}{f'.{k}' if k else ''}.log" for k in range(LOGS_KEPT + 1))
    return next(path for path in taken if not path.exists())


def _lines(workspace: Path) -> Iterator[ScheduledRun]:
    try:
        lines = _file(workspace).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield ScheduledRun.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError):
            continue


def _file(workspace: Path) -> Path:
    return workspace / "logs" / "schedule" / "runs.jsonl"
