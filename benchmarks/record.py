"""The record: one JSON a benchmark, and one page that says target, measured, met or not."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from benchmarks.machine import ROOT, Machine
from selftrain.files.writing import replace_text

RESULTS = ROOT / "benchmarks" / "results"
Relation = Literal["<", "<=", ">", ">="]
LEGEND = (
    "In the tables below:",
    "",
    '- "labels" are the ones trained on, plus the ones held out for choosing.',
    '- "used, right" counts the pseudo-labels of each round, and says how many of them are right.',
    '- "at target .9, right" does so for what a target precision of .9 would have accepted.',
    '- A "-" under "control" means that the first teacher stayed best, or that none was trained.',
    "",
)


class Check(BaseModel):
    """One measured number against its target; `unit` is "" for a ratio."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    what: str
    measured: float
    relation: Relation
    target: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the number keeps the target; a NaN never does."""
        match self.relation:
            case "<":
                return self.measured < self.target
            case "<=":
                return self.measured <= self.target
            case ">":
                return self.measured > self.target
            case ">=":
                return self.measured >= self.target

    def line(self) -> str:
        """The check in words."""
        unit = f" {self.unit}" if self.unit else ""
        verdict = "met" if self.met else "NOT met"
        return f"{self.what}: {self.measured:.4g}{unit} (target {self.relation} {self.target:g}{unit}): {verdict}"


class Table(BaseModel):
    """Rows for a reader: a cell a column, as text."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def aligned(self) -> str:
        """The table in columns of even width."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = (self.columns, *self.rows)
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def markdown(self) -> list[str]:
        """The table's lines in Markdown."""
        lines = (self.columns, ("---",) * len(self.columns), *self.rows)
        return [f"| {' | '.join(line)} |" for line in lines]


class Result(BaseModel):
    """What one benchmark measured; `details` hold every repetition, `tables` what a page shows beside the checks."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    checks: tuple[Check, ...]
    details: dict[str, JsonValue]
    tables: tuple[Table, ...] = ()


class Record(BaseModel):
    """A Result with what it depends on."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    benchmark: str
    question: str
    date: datetime.date
    commit: str
    seconds: float
    machine: Machine
    result: Result


def write(record: Record, folder: Path = RESULTS) -> None:
    """Replace the benchmark's record, and the page over all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / f"{record.benchmark}.json", record.model_dump_json(indent=2) + "\n")
    replace_text(folder / "README.md", page(read(folder)))


def read(folder: Path = RESULTS) -> list[Record]:
    """All records, by name."""
    return [Record.model_validate_json(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def page(records: list[Record]) -> str:
    """The page over all records, in Markdown."""
    lines = [
        "# Measured results",
        "",
        "`make bench` writes this page. [benchmarks](../README.md) explains each number, and "
        "[docs/experiments.md](../../docs/experiments.md) discusses them.",
        "",
    ]
    lines += ["| benchmark | number | target | measured | met | date | commit | machine |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    machines: list[str] = []
    for record in records:
        if (described := _described(record.machine)) not in machines:
            machines.append(described)
        where = f"{machines.index(described) + 1}{', busy' if record.machine.busy else ''}"
        for check in record.result.checks:
            unit = f" {check.unit}" if check.unit else ""
            lines.append(
                f"| {record.benchmark} | {check.what} | {check.relation} {check.target:g}{unit} "
                f"| {check.measured:.4g}{unit} | {'yes' if check.met else '**no**'} "
                f"| {record.date} | {record.commit} | {where} |"
            )
    lines += ["", *(f"{number}. {text}" for number, text in enumerate(machines, 1)), ""]
    if any(record.machine.busy for record in records):
        lines += ["busy: other processes were running when the benchmark started, so its times say little.", ""]
    lines += LEGEND if any(record.result.tables for record in records) else ()
    for record in records:
        for table in record.result.tables:
            lines += [f"## {record.benchmark}", "", record.question, "", f"{table.title}.", "", *table.markdown(), ""]
    return "\n".join(lines)


def _described(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.short}, {machine.memory_gb:g} GB, {machine.system}, Python {machine.python}, {versions}"
