"""Over all recorded loops: is a target precision reached, and is no kept model surely worse?"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, TypeAdapter

from benchmarks.photos import SkippedError
from benchmarks.protocol import TARGET_PRECISION
from benchmarks.record import Check, Result, read
from benchmarks.rows import Row, precise_enough, surely_worse

SLACK = 0.02  # of the target: the test images of a pool are finite
PART, WHOLE = "digits_seeds", "digits_labels"  # the loops of the one are among those of the other
RUNS = 0.9  # the share of loops that keep it


def measure(*, quick: bool) -> Result:
    """From the rows of the learning benchmarks, as they are recorded; nothing is trained."""
    every = recorded_rows()
    if not every:
        raise SkippedError("no learning benchmark is recorded yet; name one, such as digits_labels")
    return judged(every)


def judged(every: Mapping[str, tuple[Row, ...]]) -> Result:
    """Both guarantees over the rows of all benchmarks, by the benchmark's name.

    Loops that compare methods begin with one and the same first teacher: what a target accepts of its answers is asked
    once.
    """
    loops = [(name, row) for name, rows in every.items() for row in rows]
    taught = {(name, row.seed, row.teacher.reference, row.precise): (name, row) for name, row in loops}
    kept = [precise_enough(row, target=TARGET_PRECISION - SLACK) for _, row in taught.values()]
    asked = [each for each in kept if each is not None]
    worse: list[JsonValue] = [f"{name}: {row.task}, seed {row.seed}" for name, row in loops if surely_worse(row)]
    missed: list[JsonValue] = [
        f"{name}: {row.task}, seed {row.seed}"
        for (name, row), each in zip(taught.values(), kept, strict=True)
        if each is False
    ]
    details: dict[str, JsonValue] = {
        "loops": {name: len(rows) for name, rows in every.items()},
        "first_teachers": len(taught),
        "nothing_accepted": len(kept) - len(asked),
        "target_missed": missed,
        "surely_worse": worse,
    }
    return Result(
        checks=(
            Check(
                what=f"share of {len(asked)} first teachers for which {TARGET_PRECISION - SLACK:g} or more of the "
                f"labels accepted at target {TARGET_PRECISION:g} are right",
                measured=sum(asked) / len(asked) if asked else float("nan"),
                relation=">=",
                target=RUNS,
            ),
            Check(
                what=f"kept models of {len(loops)} loops that are worse than their teacher beyond the interval",
                measured=len(worse),
                relation="<=",
                target=0,
            ),
        ),
        details=details,
    )


def recorded_rows() -> dict[str, tuple[Row, ...]]:
    """The rows of every record that has some, by the benchmark's name; loops that two of them report, once."""
    found = {record.benchmark: record.result.details.get("rows") for record in read()}
    rows = TypeAdapter(tuple[Row, ...])
    return {
        name: rows.validate_python(values)
        for name, values in found.items()
        if values is not None and name.replace(PART, WHOLE) not in set(found) - {name}
    }
