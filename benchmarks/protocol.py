"""The protocol of the learning benchmarks: a draw, the loop with its control, test read once after it; a row a seed.

The loop is given images and the labels that a draw shows. Its gate, best weights, calibration and threshold read
validation, which is held out of these labels. When it has ended, all models that are reported are read on test, once;
then the labels that the draw hides say how many pseudo-labels were right. Nothing is chosen after either.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from benchmarks import loops, machine
from benchmarks.draws import Draw
from benchmarks.kept import kept
from benchmarks.record import Check, Result, read
from benchmarks.rows import Labelled, Row, percent, points, table
from selftrain.config import KEPT_BY_THE_MANIFEST, PRODUCTION, Experiment, TargetPrecision
from selftrain.data.manifest import Manifest, Split
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, compare, evaluate
from selftrain.learn.models import divergence
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.scoring import probs_on_test
from selftrain.selflabel.teaching.task import label_pool, task_of

Kind = Literal["cpu", "gpu"]
KINDS: tuple[Kind, ...] = ("cpu", "gpu")
TARGET_PRECISION = 0.9
LOOKS = 12  # at validation, in one training


NEWER = {
    "teacher": {"head", "pixels", "image_size", "preset", "prompts", "called"},
    "student": {"head"},
    "pseudo_label": {"labeler"},
    "ingest": {"bits"},
    "checks": {
        *("max_quality_hints", "min_objects_per_class", "max_objects_per_image", "min_box_side", "max_without_objects"),
        "max_boxes_beyond",
    },
}
"""Settings that came after the first records, left out of a configuration where they are not set."""


@dataclass(frozen=True)
class Budget:
    """What a benchmark spends: seeds, and image-steps for the first teacher and for the student of each round.

    A student with the default finish spends a twentieth more; the control as many as its teacher and students.
    """

    seeds: int
    teacher: int
    student: int
    rounds: int = 1

    def steps(self, role: Literal["teacher", "student"], images: int) -> dict[str, int]:
        """The recipe's keys for steps of `images` images each."""
        steps = max(1, (self.teacher if role == "teacher" else self.student) // images)
        return {"steps": steps, "validate_every": max(1, steps // LOOKS)}


@dataclass(frozen=True)
class Asked:
    """What of a benchmark is asked for: its `quick` version, the budget of a `kind` of machine, the first `seeds` only.

    What a record holds of further seeds, of the same configuration, stays in it.
    With `recorded`, a row that a record holds of the same configuration is taken from there, whatever code measured
    it: a benchmark of many hours goes on where another machine left it, and each row names its commit.
    """

    quick: bool
    kind: Kind
    seeds: int | None = None
    recorded: bool = False


@dataclass(frozen=True)
class Task:
    """One data set at one number of labels: what is drawn, and what is trained on it, each by the seed."""

    name: str
    seeds: int
    draw: Callable[[int], Draw]
    experiment: Callable[[int], Experiment]


def rows(benchmark: str, task: Task, asked: Asked) -> tuple[Row, ...]:
    """A row a seed; those that were finished before, with the same code and configuration, from the disk.

    The rows of a quick version are made anew.
    """
    seeds = task.seeds if asked.seeds is None else min(task.seeds, asked.seeds)
    recorded = {} if asked.quick else recorded_rows()
    every = [Loop(task.name, seed, task.experiment(seed), task.draw(seed)) for seed in range(task.seeds)]
    wanted = [each for each in every if each.seed < seeds or each.configuration in recorded]
    return tuple(
        _row(benchmark, each, recorded if asked.recorded or each.seed >= seeds else {}, fresh=asked.quick)
        for each in wanted
    )


def recorded_rows() -> dict[str, Row]:
    """The rows of all records, by their configuration."""
    found = [each.result.details.get("rows", []) for each in read()]
    return {row.configuration: row for rows in found for row in TypeAdapter(list[Row]).validate_python(rows)}


def result(checks: Sequence[Check], every: Sequence[Row]) -> Result:
    """The record of a learning benchmark."""
    return Result(
        checks=tuple(checks), details={"rows": [row.model_dump(mode="json") for row in every]}, tables=(table(every),)
    )


@dataclass(frozen=True)
class Loop:
    """One row's work."""

    task: str
    seed: int
    experiment: Experiment
    draw: Draw

    @cached_property
    def configuration(self) -> str:
        """A digest of all that is chosen: not of the code, nor of where it runs."""
        whole = dict.fromkeys({"workspace", "machine", "task", "detection", *PRODUCTION}, True)
        newer: dict[str, set[str]] = {
            "splitting": set(KEPT_BY_THE_MANIFEST),
            "registry": {"limits", "trial_images", "calibration_margin", "first_champion"},
        }
        for section, keys in NEWER.items():
            newer[section] = keys - getattr(self.experiment, section).model_fields_set
        left_out = {**newer, **whole}  # no row sets the other newer keys
        chosen = _without_folders(self.experiment).model_dump_json(exclude=left_out)
        parts = (self.task, str(self.seed), chosen, self.draw.source.scan().digest)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _without_folders(e: Experiment) -> Experiment:
    """`e` with files of weights by name: where they lie is the machine's affair."""
    recipes = {"teacher": e.teacher, "student": e.student}
    named = {
        role: recipe.model_copy(update={"weights": Path(recipe.weights).name})
        for role, recipe in recipes.items()
        if recipe.weights is not None
    }
    return e.model_copy(update=named)


def _row(benchmark: str, loop: Loop, before: Mapping[str, Row], *, fresh: bool) -> Row:
    row = before.get(loop.configuration)
    if row is None:
        row = kept(Row, benchmark, loop.configuration, partial(_measured, loop), fresh=fresh)
    missing = row.control_diverged or ("it was not asked for" if row.best_round else "no student was kept")
    over = points(row.control.difference) if row.control else missing
    print(
        f"    {row.task}, seed {row.seed}: teacher {percent(row.teacher.reference)} %, final "
        f"{percent(row.accuracy)} % ({points(row.teacher.difference)}), over the control {over}; "
        f"{row.image_steps} image-steps, {row.training_seconds:.0f} s of training; {row.date}, {row.commit}",
        flush=True,
    )
    return row


def _measured(loop: Loop, keep: Path) -> Row:
    import keras

    keras.utils.clear_session()
    resumed, started, commit = keep.exists(), time.monotonic(), machine.commit()
    with loops.scratch(keep.name) as workspace:
        e = loop.experiment.model_copy(update={"workspace": str(workspace)})
        ended = loops.run(e, loop.draw.source, keep, loops.Said(f"{loop.task}, seed {loop.seed}"))
        report, promoted = read_test(ended)
        every = (History(rounds=ended.looped.history.rounds[: k + 1]) for k in range(len(ended.looped.labels)))
        taught = tuple(labelled_precisely(e, ended, each) for each in every)
        seconds = None if resumed else round(time.monotonic() - started, 1)
    manifest, looped, history = ended.ingested.manifest, ended.looped, ended.looped.history
    learnt = () if e.student.in_training else looped.labels
    if report.comparison is None:
        raise RuntimeError("the report on test has no comparison with the first teacher")
    return Row(
        task=loop.task,
        seed=loop.seed,
        configuration=loop.configuration,
        training_labels=len(manifest.rows(Split.TRAIN)),
        validation_labels=len(manifest.rows(Split.VALIDATION)),
        pool=len(manifest.rows(Split.UNLABELED)),
        test=report.images,
        near_copies_left_out=ended.ingested.held_out_copies,
        accuracy=report.accuracy,
        interval=report.interval,
        teacher=report.comparison,
        control=report.control,
        control_diverged=report.control_diverged,
        promoted=promoted,
        rounds=history.students,
        best_round=history.best.index,
        verdict=str(ended.verdict),
        validation=tuple(each.validation_accuracy for each in history.rounds),
        used=tuple(counted(labels, manifest, loop.draw.hidden) for labels in learnt),
        precise=tuple(counted(labels, manifest, loop.draw.hidden) for labels in taught),
        image_steps=sum(each.image_steps for each in history.rounds),
        control_image_steps=looped.control.contract.image_steps if looped.control else None,
        training_seconds=round(sum(each.seconds for each in history.rounds), 1),
        control_seconds=round(looped.control.contract.seconds, 1) if looped.control else None,
        seconds=seconds,
        machine=machine.this_machine().short,
        date=datetime.date.today(),
        commit=commit,
    )


def read_test(ended: loops.Ended) -> tuple[EvaluationReport, tuple[Comparison, ...]]:
    """The final model on test against the first teacher and the control; and each kept student against its teacher."""
    looped, data = ended.looped, ended.looped.labeled
    labeled = data.manifest

    def answers(model: SavedModel) -> npt.NDArray[np.float32]:
        return probs_on_test(labeled, data.pixels(model.contract.image_size), model)

    lost = divergence.reason(looped.control) if looped.control else None
    kept_ones = [each.index for each in looped.history.rounds if each.kept]
    probs = {index: answers(looped.models[index]) for index in kept_ones}
    truth = labeled.labels()[labeled.rows(Split.TEST)]
    report = evaluate(
        truth,
        probs[looped.history.best.index],
        class_names=labeled.label_map.names,
        reference_probs=probs[0],
        control_probs=answers(looped.control) if looped.control and lost is None else None,
    ).model_copy(update={"control_diverged": lost})
    # The newest kept model teaches the next student.
    pairs = itertools.pairwise(kept_ones)
    return report, tuple(compare(truth, probs[student], probs[teacher]) for teacher, student in pairs)


def labelled_precisely(e: Experiment, ended: loops.Ended, before: History) -> PseudoLabels:
    """What a target precision would have accepted of the answers that followed the rounds `before`."""
    teacher = ended.looped.models[before.teacher.index]
    settings = e.pseudo_label.model_copy(update={"threshold": TargetPrecision(target=TARGET_PRECISION)})
    return label_pool(task_of(e.task), ended.images, teacher, settings=settings, round_index=before.students + 1)


def counted(labels: PseudoLabels, manifest: Manifest, hidden: Mapping[str, str]) -> Labelled:
    """The accepted of `labels`, and how many of them have the class that `hidden` (path -> class) names."""
    paths = dict(zip(manifest.table["image_id"].to_pylist(), manifest.table["origin"].to_pylist(), strict=True))
    accepted = labels.accepted
    names = [labels.class_names[index] for index in accepted["label"].to_pylist()]
    known = [hidden[paths[image_id]] for image_id in accepted["image_id"].to_pylist()]
    return Labelled(accepted=len(names), right=sum(ours == theirs for ours, theirs in zip(names, known, strict=True)))
