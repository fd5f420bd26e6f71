"""The loop in one function: what pipelines/ssl_pipeline.py wires step by step, for those who run without an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.config import Experiment
from selftrain.data.manifest import Manifest
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.progress import Progress, noting, silent
from selftrain.selflabel.rounds.history import History, Verdict

if TYPE_CHECKING:
    from selftrain.data.store.pixels import Pixels
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

PixelsOf = Callable[[Manifest, int], "Pixels"]


@dataclass(frozen=True)
class LoopResult:
    """A loop that came to its end: a model a round, and the pseudo-labels of each round after the first teacher.

    `labeled` is the part of the manifest with human labels. A student that diverged is a model without weights. There
    is one set of labels more than there are students where a guard stopped the loop at them. `control` is the
    supervised control, where one was asked for; it can have diverged, too.
    """

    history: History
    models: tuple[SavedModel, ...]
    labels: tuple[PseudoLabels, ...]
    control: SavedModel | None
    labeled: Manifest

    @property
    def final(self) -> SavedModel:
        """The best model by validation."""
        return self.models[self.history.best.index]


def run_loop(
    e: Experiment,
    manifest: Manifest,
    *,
    pixels_of: PixelsOf,
    folder: Path,
    checkpoints: Checkpoints,
    first_teacher: SavedModel | None = None,
    progress: Progress = silent,
) -> LoopResult:
    """Teacher, then pseudo-labels and a student a round, until the gate or a guard ends it; test is not read.

    `pixels_of(manifest, size)` are a manifest's images at `size` pixels a side. Models are saved below `folder`, which
    no loop of other settings, data or code may share: a model that is there is taken as it is, a student if the same
    teacher taught it. So a loop that was killed goes on with the round it was in, and with the training it was in from
    its `checkpoints`. `first_teacher` None: it is trained.
    """
    from selftrain.selflabel.rounds.gate import judge
    from selftrain.selflabel.rounds.outcome import minutes
    from selftrain.selflabel.rounds.recipes import recipe_after
    from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards, with_round_of
    from selftrain.selflabel.selection.thresholds import check_classes
    from selftrain.selflabel.teaching import scoring, training
    from selftrain.selflabel.teaching.labeling import label_pool

    check_classes(e.pseudo_label.threshold, manifest.label_map.names)
    labeled = manifest.labeled()
    teacher = first_teacher or _finished(folder / "0")
    teacher = teacher or training.train_teacher(
        labeled,
        pixels_of(labeled, e.image_size),
        recipe=e.teacher,
        seed=e.seed,
        folder=folder / "0",
        checkpoints=checkpoints,
        progress=noting(progress, "teacher"),
    )
    models = [teacher]
    labels: list[PseudoLabels] = []
    scores = scoring.score(labeled, pixels_of(labeled, teacher.contract.image_size), teacher)
    history = History().with_round(teacher_round(manifest, teacher, scores, e.gate))
    while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
        index = history.students + 1
        teacher = models[history.teacher.index]
        answers = label_pool(
            manifest,
            pixels_of(manifest, teacher.contract.image_size),
            teacher,
            settings=e.pseudo_label,
            round_index=index,
            progress=noting(progress, f"round {index}, pseudo-labels"),
        )
        method = e.student.method
        history = with_guards(history, e.guards, manifest, answers, method=method)
        labels.append(answers)
        if history.stopped:
            break
        recipe = recipe_after(e.student, history.teacher.index)
        taught = folder / f"{index}-{teacher.digest[:16]}"
        student = _finished(taught) or training.train_student(
            manifest,
            answers,
            pixels_of(manifest, e.image_size),
            recipe=recipe,
            backbone=recipe.backbone_after(teacher.contract.backbone),
            teacher=teacher,
            seed=e.seed + index,
            folder=taught,
            checkpoints=checkpoints,
            progress=noting(progress, f"round {index}, student"),
        )
        scores = scoring.score(labeled, pixels_of(labeled, student.contract.image_size), student)
        finished = student_round(index, manifest, answers, student, scores, e.gate, method=method)
        history = with_round_of(history, e.guards, e.gate, finished, method=method)
        models.append(student)
    control = _control(e, labeled, history, pixels_of, folder, checkpoints, progress)
    return LoopResult(history, tuple(models), tuple(labels), control, labeled)


def evaluate_on_test(looped: LoopResult, *, pixels_of: PixelsOf) -> EvaluationReport:
    """The final model on test, against the first teacher (and the control) on the same images: once, at the end."""
    from selftrain.selflabel.teaching import scoring

    images = partial(pixels_of, looped.labeled)
    return scoring.evaluate_on_test(looped.labeled, looped.final, looped.models[0], looped.control, pixels_at=images)


def _finished(folder: Path) -> SavedModel | None:
    """The model that this loop, or the same one before it, saved in `folder`."""
    from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel

    return SavedModel.read(folder) if (folder / CONTRACT_FILE).is_file() else None


def _control(
    e: Experiment,
    labeled: Manifest,
    history: History,
    pixels_of: PixelsOf,
    folder: Path,
    checkpoints: Checkpoints,
    progress: Progress,
) -> SavedModel | None:
    """What as many image-steps on human labels alone give; None where it is not asked for, or no student is best."""
    from selftrain.selflabel.rounds.recipes import control_recipe, control_seed
    from selftrain.selflabel.teaching import training

    if e.control == "none" or history.best.index == 0:
        return None
    against = folder / f"control-{history.best.model_digest[:16]}"
    return _finished(against) or training.train_control(
        labeled,
        pixels_of(labeled, e.image_size),
        recipe=control_recipe(e.student, history),
        backbone=history.best.backbone,
        seed=control_seed(e.student, history, seed=e.seed),
        folder=against,
        checkpoints=checkpoints,
        progress=noting(progress, "control"),
    )
