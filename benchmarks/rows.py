"""Rows: one loop each, as the learning benchmarks record it; their table, and the checks that several of them share."""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.record import Check, Table
from selftrain.evaluate.evaluation import Comparison
from selftrain.evaluate.statistics.intervals import Interval

COLUMNS = (
    "task",
    "seed",
    "labels",
    "pool",
    "first teacher",
    "final",
    "gain",
    "control",
    "gain on control",
    "used, right",
    "at target .9, right",
    "image-steps",
    "control's",
    "training",
    "machine",
    "commit",
)
NONE = "-"


class Labelled(BaseModel):
    """What a rule accepted of the pool in one round, and of how many of these the hidden label is the same."""

    model_config = ConfigDict(frozen=True)

    accepted: int
    right: int

    @property
    def precision(self) -> float | None:
        """The share that is right; None where nothing was accepted."""
        return self.right / self.accepted if self.accepted else None


class Row(BaseModel):
    """One loop: accuracies of its final model, first teacher and control on the same test images, and what it took.

    `promoted` compares each student that was kept with the teacher that taught it, on test. `used` counts what the
    loop's own threshold accepted a round, `precise` what a target precision would have accepted of the same answers.
    `image_steps` are of the teacher and all students, kept or not; `training_seconds` are theirs too, over all starts,
    validation included. `seconds` is everything but unpacking, control and test included; None where it was resumed.
    `configuration` is a digest of data, labels and settings, `commit` the code's when it began.
    There is no control where the first teacher stayed the best model: it learned from labels alone, and is its own; nor
    where its training diverged, for the reason `control_diverged`.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")  # a student that diverged has no accuracy

    task: str
    seed: int
    configuration: str
    training_labels: int
    validation_labels: int
    pool: int
    test: int
    near_copies_left_out: int
    accuracy: float
    interval: Interval
    teacher: Comparison
    control: Comparison | None
    control_diverged: str | None = None
    promoted: tuple[Comparison, ...]
    rounds: int
    best_round: int
    verdict: str
    validation: tuple[float, ...]
    used: tuple[Labelled, ...]
    precise: tuple[Labelled, ...]
    image_steps: int
    control_image_steps: int | None
    training_seconds: float
    control_seconds: float | None
    seconds: float | None
    machine: str
    date: datetime.date
    commit: str

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        compared = self.control
        return (
            self.task,
            str(self.seed),
            f"{self.training_labels} + {self.validation_labels}",
            str(self.pool),
            percent(self.teacher.reference),
            f"{percent(self.accuracy)} {_between(self.interval)}",
            f"{points(self.teacher.difference)} {_between(self.teacher.difference_interval)}",
            percent(compared.reference) if compared else ("diverged" if self.control_diverged else NONE),
            f"{points(compared.difference)} {_between(compared.difference_interval)}" if compared else NONE,
            _shares(self.used),
            _shares(self.precise),
            _count(self.image_steps),
            _count(self.control_image_steps),
            f"{self.training_seconds:.0f} s",
            self.machine,
            self.commit,
        )


class Mean(NamedTuple):
    """A mean over seeds with Student's 95 % interval, which one seed alone does not have (NaN)."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float], *, alpha: float = 0.05) -> Mean:
    """The mean of `values`; NaN of none.

    >>> [round(number, 3) for number in mean([0.1, 0.2, 0.3])]
    [0.2, -0.048, 0.448]
    """
    if len(values) < 2:
        return Mean(values[0] if values else math.nan, math.nan, math.nan)
    from scipy.stats import t

    centre = statistics.mean(values)
    reach = float(t.ppf(1 - alpha / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Mean(centre, centre - reach, centre + reach)


def table(rows: Sequence[Row]) -> Table:
    """All rows, and after those of each task with several seeds, their means."""
    lines: list[tuple[str, ...]] = []
    for task in dict.fromkeys(row.task for row in rows):
        ours = [row for row in rows if row.task == task]
        lines += [row.cells() for row in ours]
        if len(ours) > 1:
            lines.append(_means(ours))
    return Table(
        title="Accuracies on test in %, gains in points, 95 % intervals",
        columns=COLUMNS,
        rows=tuple(lines),
    )


def gains(rows: Sequence[Row], *, of: str = "") -> tuple[Check, ...]:
    """Whether the final models of one task are on average above their first teachers, and above their controls."""
    name = f"{of}: " if of else ""
    over_teacher = mean([row.teacher.difference for row in rows]).value
    over_control = mean([_over_control(row) for row in rows]).value
    return (
        Check(what=f"{name}mean gain over the first teacher", measured=over_teacher, relation=">", target=0),
        Check(what=f"{name}mean gain over the control", measured=over_control, relation=">", target=0),
    )


def precise_enough(row: Row, *, target: float) -> bool | None:
    """Whether all that a target precision accepts in this loop is at least so right; None where it accepts nothing."""
    shares = [each.precision for each in row.precise if each.precision is not None]
    return min(shares) >= target if shares else None


def surely_worse(row: Row) -> bool:
    """Whether the final model is worse than the first teacher, or a kept student than its own, beyond the interval."""
    return any(each.difference_interval.high < 0 for each in (row.teacher, *row.promoted))


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * difference:+.1f}"


def _over_control(row: Row) -> float:
    if row.best_round == 0:
        return 0.0
    if row.control_diverged is not None:
        return math.nan
    if row.control is None:
        raise ValueError(f"{row.task}, seed {row.seed}: a student is the best model, and there is no control")
    return row.control.difference


def _between(interval: tuple[float, float]) -> str:
    low, high = interval
    return "" if math.isnan(low) else f"({percent(low)} to {percent(high)})"


def _shares(rounds: Iterable[Labelled]) -> str:
    """Each round's accepted images and how many per cent of them are right."""
    texts = [f"{each.accepted}, {percent(each.precision)} %" if each.precision is not None else "0" for each in rounds]
    return "; ".join(texts) or NONE


def _count(images: int | None) -> str:
    return NONE if images is None else f"{images:,}"


def _means(rows: Sequence[Row]) -> tuple[str, ...]:
    compared = all(row.best_round == 0 or row.control for row in rows)
    controls = [row.accuracy - _over_control(row) for row in rows] if compared else []
    accuracy = mean([row.accuracy for row in rows])
    gain = mean([row.teacher.difference for row in rows])
    on_control = mean([_over_control(row) for row in rows] if compared else [])
    return (
        rows[0].task,
        f"mean of {len(rows)}",
        "",
        "",
        percent(statistics.mean(row.teacher.reference for row in rows)),
        f"{percent(accuracy.value)} {_between(accuracy[1:])}",
        f"{points(gain.value)} {_between(gain[1:])}",
        percent(statistics.mean(controls)) if compared else NONE,
        f"{points(on_control.value)} {_between(on_control[1:])}" if compared else NONE,
        "",
        "",
        _count(round(statistics.mean(row.image_steps for row in rows))),
        "",
        f"{statistics.mean(row.training_seconds for row in rows):.0f} s",
        "",
        "",
    )
