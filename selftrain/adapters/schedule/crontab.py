"""An entry in the user's crontab. Every line of others stays as it is, byte for byte.

Cron knows no time zones and makes nothing up after the machine was off. So the entry looks once an hour, in the minutes
in which the schedule can be due; the look decides, and costs a fraction of a second.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from selftrain.adapters.schedule.programs import ask, insist
from selftrain.errors import ScheduleError
from selftrain.files.locks import locked

DAEMONS = frozenset({"cron", "crond", "fcron", "dcron", "cronie"})
MINUTES = 60
EMPTY = 1
"""How `crontab -l` ends where the user has none."""


def runs() -> bool:
    """Whether cron starts entries here: the program is there, and so is the process that reads them."""
    if shutil.which("crontab") is None:
        return False
    return sys.platform == "darwin" or _daemon_runs()  # macOS starts cron once there is an entry


def put(mark: str, command: Sequence[str], minutes: frozenset[int]) -> None:
    """Let cron run `command` in these minutes of every hour, in place of what `mark` ran before.

    Raises ScheduleError if the table cannot be read or written; it then stays as it was.
    """
    when = "*" if len(minutes) == MINUTES else ",".join(map(str, sorted(minutes)))
    # Cron makes a new line of each % that has no backslash.
    line = f"{when} * * * * {shlex.join(command)}".replace("%", "\\%")
    if "\n" in line or "\r" in line:
        raise ScheduleError(
            f"{shlex.join(command)!r} has a line break and cannot be a crontab entry; rename the folder"
        )
    _edit(lambda table: with_entry(without_entry(table, mark), mark, line.encode()))


def take(mark: str) -> None:
    """Remove the entry of `mark`, if it is there. Without its program, cron has no table."""
    if shutil.which("crontab") is not None:
        _edit(lambda table: without_entry(table, mark))


def holds(mark: str) -> bool:
    """Whether the table has the entry of `mark`."""
    return shutil.which("crontab") is not None and _begin(mark) in _table().split(b"\n")


def with_entry(table: bytes, mark: str, line: bytes) -> bytes:
    r"""`table` with `line` at its end, between two marks.

    >>> with_entry(b"0 1 * * * backup\n", "pets", b"0 * * * * look").decode()
    '0 1 * * * backup\n# selftrain: begin pets\n0 * * * * look\n# selftrain: end pets\n'
    """
    if table and not table.endswith(b"\n"):
        table += b"\n"
    return table + b"\n".join((_begin(mark), line, _end(mark), b""))


def without_entry(table: bytes, mark: str) -> bytes:
    """`table` without what lies between the marks of `mark`. Raises ScheduleError if one mark is missing."""
    begin, end = re.escape(_begin(mark)), re.escape(_end(mark))
    left = re.sub(rb"^%b\n(?:(?!# selftrain: ).*\n)*?%b(?:\n|\Z)" % (begin, end), b"", table, flags=re.MULTILINE)
    if any(line in (_begin(mark), _end(mark)) for line in left.split(b"\n")):
        raise ScheduleError(
            f"the crontab has one of the two lines '# selftrain: begin {mark}' and '# selftrain: end {mark}' only; "
            "remove it with `crontab -e`"
        )
    return left


def _edit(edited: Callable[[bytes], bytes]) -> None:
    """Replace the table by what `edited` makes of it, unless it stays the same."""
    import click

    with locked(Path(click.get_app_dir("selftrain")) / "crontab.lock"):
        before = _table()
        after = edited(before)
        if after != before:
            insist("crontab", "-", given=after)


def _table() -> bytes:
    ended = ask("crontab", "-l")
    if ended.returncode == EMPTY and b"no crontab" in ended.stderr:
        return b""
    if ended.returncode != 0:
        said = " ".join(ended.stderr.decode(errors="replace").split())
        raise ScheduleError(f"the crontab cannot be read: {said or ended.returncode}; mend that, or use --foreground")
    return ended.stdout


def _daemon_runs() -> bool:
    import psutil

    return any(process.info["name"] in DAEMONS for process in psutil.process_iter(["name"]))


def _begin(mark: str) -> bytes:
    return f"# selftrain: begin {mark}".encode()


def _end(mark: str) -> bytes:
    return f"# selftrain: end {mark}".encode()
