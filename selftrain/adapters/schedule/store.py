"""The schedules of a workspace: what runs when, who starts it, and up to when it is dealt with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from selftrain.adapters.schedule.cron import Cron
from selftrain.errors import InputError
from selftrain.files.locks import locked
from selftrain.files.writing import replace_text

Starter = Literal["zenml", "systemd", "crontab", "foreground"]
"""Who starts the runs of a schedule."""


class Entry(BaseModel):
    """One schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    cron: str
    time_zone: str
    config: str | None
    command: tuple[str, ...]
    folder: str
    environment: dict[str, str] = {}
    starter: Starter
    paused: bool = False
    since: AwareDatetime
    armed: bool = False

    @property
    def times(self) -> Cron:
        """When it is due."""
        return Cron(self.cron, self.time_zone)

    def look(self, now: datetime) -> Entry:
        """This schedule after a look at the clock: armed if it is due; a paused one makes nothing up later."""
        if self.paused:
            return self.model_copy(update={"since": now})
        found = self.times.look(now, since=self.since)
        return self.model_copy(update={"since": found.since, "armed": self.armed or found.due is not None})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schedules: list[Entry]


def schedules(workspace: Path) -> tuple[Entry, ...]:
    """Every schedule, by name. Raises InputError for a file that is not as it was written."""
    path = file_of(workspace)
    try:
        found = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise InputError(
            f"{path} cannot be read: {reason}; mend it, or move it away and add the schedules again"
        ) from None
    return tuple(sorted(found.schedules, key=lambda entry: entry.name))


def schedule_of(workspace: Path, name: str | None) -> Entry:
    """The schedule `name`; None: the only one. Raises InputError, which names those that there are."""
    known = schedules(workspace)
    chosen = [entry for entry in known if name in (None, entry.name)]
    if len(chosen) == 1:
        return chosen[0]
    if not known:
        raise InputError(f"{file_of(workspace)} holds no schedule; add one with selftrain schedule --cron '0 3 * * *'")
    names = ", ".join(entry.name for entry in known)
    raise InputError(f"no schedule is called {name!r}; there are: {names}" if name else f"name one of: {names}")


def change(workspace: Path, name: str, made: Callable[[Entry | None], Entry | None]) -> Entry | None:
    """Replace the schedule `name` (None: not there yet) by what `made` makes of it (None: nothing); returns that.

    No other process changes a schedule meanwhile. A reader sees the old schedules or the new ones.
    """
    with locked(workspace / "locks" / "schedules"):
        before = {entry.name: entry for entry in schedules(workspace)}
        after = made(before.get(name))
        if after != before.pop(name, None):
            kept = [*before.values(), *([after] if after is not None else [])]
            text = json.dumps({"schedules": [entry.model_dump(mode="json") for entry in kept]}, indent=2)
            replace_text(file_of(workspace), f"{text}\n")
    return after


def update(workspace: Path, name: str, **fields: object) -> Entry | None:
    """Set fields of the schedule `name`; None, and nothing changes, if it is gone."""
    return change(workspace, name, lambda entry: entry.model_copy(update=fields) if entry is not None else None)


def look(workspace: Path, names: tuple[str, ...], now: datetime) -> None:
    """Arm each of the schedules `names` that is due at `now`."""
    for name in names:
        change(workspace, name, lambda entry: entry.look(now) if entry is not None else None)


def clock() -> datetime:
    """The time now, UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def file_of(workspace: Path) -> Path:
    """The file that holds the schedules."""
    return workspace / "schedules.json"
