"""The label log's tail: its newest lines, in a file that is only appended to.

The first text line names the tail, and each later one holds the log lines that were added together. A process that is
killed leaves at most a part of one text line, which nobody was told is saved; it is not read, and cut off later.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from selftrain.errors import LabelLogError
from selftrain.files.writing import replace

LABEL_TAIL = "label_log.jsonl"
LogRow = Mapping[str, object]


@dataclass(frozen=True)
class Tail:
    """The lines of a tail in their order, as values by column, and the name that it was begun with."""

    id: str
    rows: tuple[LogRow, ...]


def read_tail(path: Path) -> Tail | None:
    """The tail at `path`; None if there is none. Raises LabelLogError for a damaged one."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabelLogError(f"{path} cannot be read: {error.strerror or error}") from error
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    if not lines:
        return None
    rows: list[LogRow] = []
    number = 1
    try:
        name = str(json.loads(lines[0])["tail"])
        for line in lines[1:]:
            number += 1
            rows += [{**row, "when": datetime.fromisoformat(row["when"])} for row in json.loads(line)]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, number) from error
    return Tail(name, tuple(rows))


def append_to_tail(path: Path, rows: Sequence[LogRow], *, spent: str | None) -> None:
    """Add `rows` (values by column, `when` a datetime) to the tail at `path`, all or none; they are on the disk then.

    A new tail is begun where there is none, or where the one called `spent` is: its lines are in the log already.
    Raises OSError where the disk refuses.
    """
    if not rows:
        return
    if _name_of(path) in (None, spent):
        head = json.dumps({"tail": secrets.token_hex(8)}) + "\n"
        replace(path, lambda part: part.write_text(head, encoding="utf-8"), durable=True)
    elif _is_shared(path):
        content = path.read_bytes()
        replace(path, lambda part: part.write_bytes(content), durable=True)
    line = json.dumps([{**row, "when": _text(row["when"])} for row in rows], ensure_ascii=False).encode() + b"\n"
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            end = file.read().rfind(b"\n") + 1
        file.truncate(end)
        file.seek(end)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _name_of(path: Path) -> str | None:
    """What the tail at `path` is called; None where there is none, or its first line was cut off."""
    try:
        with path.open("rb") as file:
            head = file.readline()
        return str(json.loads(head)["tail"]) if head.endswith(b"\n") else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, 1) from error


def _damaged(path: Path, line: int) -> LabelLogError:
    return LabelLogError(
        f"{path} cannot be read: line {line} is damaged; `selftrain restore` brings back the log of an earlier version"
    )


def _is_shared(path: Path) -> bool:
    """Whether the file may be one of DVC's cache, which must not be changed in place."""
    return path.is_symlink() or path.stat().st_nlink > 1 or not os.access(path, os.W_OK)


def _text(when: object) -> str:
    return when.isoformat() if isinstance(when, datetime) else str(when)
