"""A timer of the user's systemd.

It looks once an hour, in the minutes in which the schedule can be due, and at once after the machine was off
(`Persistent=true`). The look decides what is due: it knows time zones, pauses, and what was made up already.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from selftrain.adapters.schedule.programs import ask, insist
from selftrain.errors import ScheduleError
from selftrain.files.writing import replace_text

RUNNING = frozenset({"running", "degraded", "starting", "initializing", "maintenance"})
HEADER = "# Written by `selftrain schedule`; `selftrain schedule remove` removes it.\n"


def runs() -> bool:
    """Whether the user's systemd really runs: the program alone is on many machines without it."""
    if shutil.which("systemctl") is None:
        return False
    try:
        return ask("systemctl", "--user", "is-system-running").stdout.decode().strip() in RUNNING
    except ScheduleError:
        return False


def lingers() -> bool:
    """Whether the user's systemd also runs while the user is not logged in."""
    try:
        return ask("loginctl", "show-user", "--property=Linger", "--value").stdout.strip() == b"yes"
    except ScheduleError:
        return False


def put(unit: str, command: Sequence[str], minutes: frozenset[int]) -> None:
    """Let systemd run `command` in these minutes of every hour, as the timer `unit`; it replaces one of that name.

    Raises ScheduleError if systemd refuses; the files of the timer are then removed again.
    """
    units = unit_folder()
    try:
        replace_text(units / f"{unit}.service", service_text(command))
        replace_text(units / f"{unit}.timer", timer_text(minutes))
    except OSError as error:
        raise ScheduleError(f"{units} cannot be written: {error.strerror}; use --foreground") from error
    try:
        insist("systemctl", "--user", "daemon-reload")
        insist("systemctl", "--user", "enable", "--now", f"{unit}.timer")
    except ScheduleError:
        _remove_files(unit)
        raise


def take(unit: str) -> None:
    """Stop the timer `unit` and remove it, if it is there. A run that goes on is not ended."""
    if not holds(unit):
        return
    running = runs()
    if running:
        insist("systemctl", "--user", "disable", "--now", f"{unit}.timer")
    _remove_files(unit)
    if running:
        insist("systemctl", "--user", "daemon-reload")


def holds(unit: str) -> bool:
    """Whether the timer `unit` is there."""
    return (unit_folder() / f"{unit}.timer").exists()


def unit_folder() -> Path:
    """Where systemd looks for the user's own units."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def service_text(command: Sequence[str]) -> str:
    """The unit that runs `command` once."""
    quoted = " ".join(_quoted(part) for part in command)
    return f"{HEADER}[Unit]\nDescription=selftrain: run what is due\n\n[Service]\nType=oneshot\nExecStart={quoted}\n"


def timer_text(minutes: frozenset[int]) -> str:
    """The timer of the unit of the same name, in these minutes of every hour."""
    when = ",".join(f"{minute:02}" for minute in sorted(minutes))
    return (
        f"{HEADER}[Unit]\nDescription=selftrain: look once an hour whether a run is due\n\n"
        f"[Timer]\nOnCalendar=*-*-* *:{when}:00\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )


def _quoted(part: str) -> str:
    """`part` as one word of ExecStart, which knows specifiers (%), variables ($) and escapes."""
    if "\n" in part or "\r" in part:
        raise ScheduleError(f"{part!r} has a line break and cannot be part of a systemd unit; rename the folder")
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        part = part.replace(special, escaped)
    return f'"{part}"'


def _remove_files(unit: str) -> None:
    for kind in ("timer", "service"):
        (unit_folder() / f"{unit}.{kind}").unlink(missing_ok=True)
    (unit_folder() / "timers.target.wants" / f"{unit}.timer").unlink(missing_ok=True)  # what `enable` links
