"""What a workspace still needs: its newest runs, and the models and data set versions that they, or users, may ask for.

All decisions are pure functions on what the stores say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from selftrain.evaluate.promotion import Change


@dataclass(frozen=True)
class PastRun:
    """A run of an experiment, as MLflow has it. `finished`: it left a record and a data set version that is here.

    `model` is the version that it registered, or found again: its model's name and number.
    """

    id: str
    experiment: str
    start: int
    finished: bool
    dataset_version: str | None = None
    model: tuple[str, int] | None = None


@dataclass(frozen=True)
class PastVersion:
    """A registered version: its files, its aliases, the run that made it, and the data set version that it learned.

    `ours`: selftrain registered it. `cached_as` is the folder of its copy in the workspace.
    """

    name: str
    number: int
    source: str
    aliases: tuple[str, ...] = ()
    run: str | None = None
    dataset_version: str | None = None
    cached_as: str = ""
    ours: bool = True


@dataclass(frozen=True)
class Needed:
    """What stays: runs by id, data set versions by hash, registered versions by name and number."""

    runs: frozenset[str] = frozenset()
    datasets: frozenset[str] = frozenset()
    models: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True)
class Facts:
    """What the stores say: runs, versions, each model's promotion log, and what retraining last decided on."""

    runs: Sequence[PastRun] = ()
    versions: Sequence[PastVersion] = ()
    logs: dict[str, Sequence[Change]] = field(default_factory=dict)
    decided_on: frozenset[str] = frozenset()


def needed(facts: Facts, keep_runs: int) -> Needed:
    """What is kept: the newest `keep_runs` finished runs of each experiment, all later ones, and what those need.

    A model is kept if it has an alias, was ever champion, or belongs to a kept run. A data set version is kept if a
    kept run, a registered version or the last decision on retraining names it.

    >>> runs = [PastRun(str(start), "digits", start, True, f"{start}.dir") for start in range(3)]
    >>> needed(Facts(runs), 1).datasets
    frozenset({'2.dir'})
    """
    runs = [run for run in facts.runs if run.start >= _oldest_kept(facts.runs, run.experiment, keep_runs)]
    ids = frozenset(run.id for run in runs)
    named = {run.dataset_version for run in runs} | {version.dataset_version for version in facts.versions}
    models = {run.model for run in runs if run.model is not None} | _champions(facts.logs)
    models |= {(each.name, each.number) for each in facts.versions if each.aliases or each.run in ids}
    return Needed(ids, facts.decided_on | {version for version in named if version}, frozenset(models))


def _oldest_kept(runs: Iterable[PastRun], experiment: str, keep_runs: int) -> int:
    """When the oldest kept run of `experiment` began; 0 where it has fewer than `keep_runs` finished ones."""
    starts = sorted((run.start for run in runs if run.experiment == experiment and run.finished), reverse=True)
    return starts[keep_runs - 1] if len(starts) >= keep_runs else 0


def _champions(logs: dict[str, Sequence[Change]]) -> set[tuple[str, int]]:
    """Every version that was ever champion, by the promotion logs."""
    moves = [(name, line) for name, log in logs.items() for line in log if line.action != "refuse"]
    champions = {(name, line.to) for name, line in moves}
    return champions | {(name, line.previous) for name, line in moves if line.previous is not None}
