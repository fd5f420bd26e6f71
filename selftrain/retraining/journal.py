"""The journal: what each look at the inbox decided, and which runs were decided, one JSON line each."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from selftrain.files.locks import locked
from selftrain.files.workspace import Workspace

Kind = Literal["look", "requested", "started", "decided", "failed", "resumed", "missed"]


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
        """All lines, oldest first. A damaged one, which is kept in the file, stands as a look that says so."""
        try:
            text = self.path.read_text(encoding="utf-8")
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
            return Line("look", datetime.min.replace(tzinfo=UTC), {"reason": f"line {number} is damaged"})


@dataclass(frozen=True)
class JournalState:
    """What the lines of a journal add up to.

    - `watermark`: the newest decided run; None before the first.
    - `failures`: failed runs since the last decided or resumed one.
    - `requested`: somebody asked for a run since one last started.
    - `missed`: since the last look, somebody found the data set busy, so another look is owed.
    """

    watermark: Line | None
    failures: int
    requested: bool
    missed: bool

    @property
    def seen_rows(self) -> int:
        """How many rows of the intake table the last decided run had seen."""
        return int(self.watermark.facts.get("intake_rows", 0)) if self.watermark else 0


def state_of(lines: list[Line]) -> JournalState:
    """The state after `lines`, oldest first."""
    watermark, failures, requested, missed = None, 0, False, False
    for line in lines:
        match line.kind:
            case "decided":
                watermark, failures = line, 0
            case "failed":
                failures += 1
            case "resumed":
                failures = 0
            case "requested":
                requested = True
            case "missed":
                missed = True
            case "started":
                requested = False
            case "look":
                missed = False
    return JournalState(watermark, failures, requested, missed)


def journal_of(workspace: Workspace, dataset: str) -> Journal:
    """The journal of a data set; it lies beside the folder that DVC versions, since it says what came after."""
    root = workspace.dataset(dataset)
    return Journal(root.with_name(f"{root.name}.retraining.jsonl"))
