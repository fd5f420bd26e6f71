"""The journal: what each look at the inbox decided, and which runs were decided, one JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, assert_never

import pyarrow as pa

from selftrain.files.locks import locked
from selftrain.files.workspace import Workspace

Kind = Literal["look", "requested", "started", "decided", "failed", "stopped", "resumed", "missed", "damaged"]


@dataclass(frozen=True)
class Line:
    """One fact of the journal: its kind, the time (UTC), and what else is known."""

    kind: Kind
    when: datetime
    facts: dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """The file `datasets/NAME.retraining.jsonl`, which is only appended to.

    A line is on the disk before the call that wrote it returns. A line that a power cut left unfinished is skipped.
    """

    path: Path

    def lines(self) -> list[Line]:
        """All lines, oldest first. A damaged one stays in the file, and has its own kind here."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        whole = text.split("\n")[:-1]  # what follows the last line break was never finished
        return [self._line(number, each) for number, each in enumerate(whole, start=1) if each]

    def append(self, kind: Kind, when: datetime | None = None, **facts: object) -> Line:
        """Add one line, and return it; `when` None: now."""
        line = Line(kind, when or datetime.now(UTC), facts)
        text = json.dumps({"kind": line.kind, "when": line.when.isoformat(), **facts}) + "\n"
        with locked(self.path.with_suffix(".lock")), open(self.path, "ab") as file:
            file.write((b"" if self._ends_well() else b"\n") + text.encode())
            file.flush()
            os.fsync(file.fileno())
        return line

    def _ends_well(self) -> bool:
        """Whether the file is empty or ends with a line break; a torn line is closed first, and skipped as not JSON."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return not content or content.endswith(b"\n")

    def _line(self, number: int, text: str) -> Line:
        try:
            values = json.loads(text)
            return Line(values.pop("kind"), datetime.fromisoformat(values.pop("when")), values)
        except (ValueError, KeyError, TypeError, AttributeError):
            return Line("damaged", datetime.min.replace(tzinfo=UTC), {"reason": f"line {number} is damaged"})


@dataclass(frozen=True)
class JournalState:
    """What the lines of a journal add up to.

    - `decided_at`: when the newest run was decided; None before the first.
    - `failed_looks`: looks that failed since one went well; `failed_runs`: runs that failed since one was decided.
      Somebody who resumes clears both.
    - `stopped`: people were told that no run starts after so many failures.
    - `requested`: somebody asked for a run, and none has been decided or has failed since.
    - `owed`: since the last run started, somebody found the data set busy or asked for a run: one more look is owed.
    """

    decided_at: datetime | None = None
    failed_looks: int = 0
    failed_runs: int = 0
    stopped: bool = False
    requested: bool = False
    owed: bool = False

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self.failed_looks + self.failed_runs


def state_of(lines: Iterable[Line]) -> JournalState:
    """The state after `lines`, oldest first."""
    state = JournalState()
    for line in lines:
        state = _after(state, line)
    return state


def _after(state: JournalState, line: Line) -> JournalState:
    match line.kind:
        case "decided":
            return JournalState(decided_at=line.when, owed=state.owed)
        case "failed" if line.facts.get("stage") == "look":
            return replace(state, failed_looks=state.failed_looks + 1)
        case "failed":
            return replace(state, failed_runs=state.failed_runs + 1, requested=False)
        case "look":
            return replace(state, failed_looks=0, owed=False)
        case "resumed":
            return replace(state, failed_looks=0, failed_runs=0, stopped=False)
        case "stopped":
            return replace(state, stopped=True)
        case "requested":
            return replace(state, requested=True, owed=True)
        case "missed":
            return replace(state, owed=True)
        case "started" | "damaged":
            return state
        case _:
            assert_never(line.kind)


def unfinished_start(lines: Iterable[Line]) -> Line | None:
    """The start of a retraining that then was neither decided nor failed: it was killed. None if there is none.

    The next one starts from the same version, even if the killed one had moved the champion: it trains nothing else,
    and finds what was registered.
    """
    start: Line | None = None
    for line in lines:
        if line.kind == "started":
            start = line
        elif line.kind in ("decided", "failed"):
            start = None
    return start


def seen_rows(lines: Iterable[Line], intake: pa.Table) -> int:
    """How many rows of `intake`, from its first, the decided runs had seen.

    A run that saw less than an earlier one takes nothing back. A data set that was restored, or taken in again, may
    have other rows now: only lines whose last image still stands in its row count.
    """
    return max((rows for line in lines if (rows := _rows_of(line, intake))), default=0)


def _rows_of(line: Line, intake: pa.Table) -> int:
    rows = int(line.facts.get("intake_rows", 0)) if line.kind == "decided" else 0
    if not 0 < rows <= intake.num_rows or intake["image_id"][rows - 1].as_py() != line.facts.get("last_image"):
        return 0
    return rows


def journal_of(workspace: Workspace, dataset: str) -> Journal:
    """The journal of a data set; it lies beside the folder that DVC versions, since it says what came after."""
    root = workspace.dataset(dataset)
    return Journal(root.with_name(f"{root.name}.retraining.jsonl"))
