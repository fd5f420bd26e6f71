"""The loop in one function: the rounds of pipelines/ssl_pipeline.py, without a pipeline engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from selftrain.config import Experiment
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import Dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.progress import Progress, noting, silent
from selftrain.selflabel.graph.spaces import spaces_of
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.plan import Plan, baseline_plan, control_plan, same_training, teacher_plan
from selftrain.selflabel.teaching.task import Destination, Task, TaskData, label_pool, task_of

if TYPE_CHECKING:
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class LoopResult:
    """The result of a loop: one model per round, and the pseudo-labels of each round after the first teacher.

    `labeled` are the images with human labels. A student that diverged is a model without weights. If a guard stopped
    the loop at a set of pseudo-labels, there is no student for that set. `control` is the supervised control, or None.
    `baseline` is a head on frozen features, fitted to the labels alone. Either may have diverged, and they may be one.
    """

    history: History
    models: tuple[SavedModel, ...]
    labels: tuple[PseudoLabels, ...]
    control: SavedModel | None
    baseline: SavedModel
    labeled: TaskData
    task: Task

    @property
    def final(self) -> SavedModel:
        """The best model by validation."""
        return self.models[self.history.best.index]


@dataclass(frozen=True)
class _Trainings:
    """The trainings of one loop. A model that is already in its folder is not trained again."""

    folder: Path
    checkpoints: Checkpoints
    progress: Progress
    devices: int | Literal["all"]

    def once(self, name: str, note: str, train: Callable[[Destination], SavedModel]) -> SavedModel:
        """The model in the folder `name`, trained first if it is missing."""
        from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel

        place = self.folder / name
        if (place / CONTRACT_FILE).is_file():
            return SavedModel.read(place)
        return train(Destination(place, self.checkpoints, noting(self.progress, note), self.devices))


def run_loop(
    e: Experiment,
    manifest: Manifest,
    dataset: Dataset,
    *,
    folder: Path,
    checkpoints: Checkpoints,
    first_teacher: SavedModel | None = None,
    task: Task | None = None,
    progress: Progress = silent,
) -> LoopResult:
    """Train a teacher, then a student per round on its pseudo-labels, until the gate or a guard ends the loop.

    - `folder`: where the models are saved. A model that is there is not trained again, if it has the same teacher.
      Loops of other settings, data or code must not share the folder.
    - `checkpoints`: a killed loop continues from them, in the round and the training where it stopped.
    - `first_teacher`: an existing model to start from; None trains one.
    - `task`: None uses the task that `e` names.

    The test set is not read. Raises ConfigError for a threshold that names an unknown class.
    """
    from selftrain.selflabel.rounds.next_round import Work, next_round
    from selftrain.selflabel.rounds.results import teacher_round
    from selftrain.selflabel.rounds.start import check_teacher
    from selftrain.selflabel.selection.thresholds import check_classes

    check_classes(e.pseudo_label.threshold, manifest.label_map.names)
    task = task or task_of(e.task)
    images, labeled = TaskData(manifest, dataset), TaskData(manifest.labeled(), dataset)
    trainings = _Trainings(folder, checkpoints, progress, dataset.machine.devices)
    models, labels = [first_teacher or _teacher(e, task, labeled, trainings)], list["PseudoLabels"]()
    scores = task.score(labeled, models[0])
    check_teacher(e.teacher.start, scores, manifest)
    history = History().with_round(teacher_round(manifest, models[0], scores, e.gate))
    work = Work(
        label=lambda coming: _label(e, task, images, models[coming.teacher], coming, progress),
        train=lambda coming, found: _student(task, images, found, coming, models[coming.teacher], trainings),
        score=lambda student: task.score(labeled, student),
    )
    while (done := next_round(e, manifest, history, work)).labels is not None:
        history = done.history
        labels.append(done.labels)
        models += [done.student] if done.student is not None else []
    control = _control(e, task, labeled, history, trainings)
    baseline = _baseline(e, task, labeled, history, models[0], control, trainings)
    return LoopResult(history, tuple(models), tuple(labels), control, baseline, labeled, task)


def evaluate_on_test(result: LoopResult) -> EvaluationReport:
    """Evaluate the final model on test, against the models that know the labels alone; called once, after the loop."""
    models = (result.final, result.models[0], result.control)
    return result.task.evaluate_on_test(result.labeled, *models, baseline=result.baseline)


def _teacher(e: Experiment, task: Task, labeled: TaskData, trainings: _Trainings) -> SavedModel:
    first = teacher_plan(e)
    return trainings.once("0", "teacher", lambda into: task.train_teacher(labeled, first, into=into))


def _label(
    e: Experiment, task: Task, images: TaskData, teacher: SavedModel, coming: Plan, progress: Progress
) -> PseudoLabels:
    show = noting(progress, f"round {coming.index}, pseudo-labels")
    spaces, settings = spaces_of(e, coming.recipe, coming.backbone), e.pseudo_label
    return label_pool(task, images, teacher, settings=settings, round_index=coming.index, spaces=spaces, progress=show)


def _student(
    task: Task, images: TaskData, labels: PseudoLabels, coming: Plan, teacher: SavedModel, trainings: _Trainings
) -> SavedModel:
    return trainings.once(
        f"{coming.index}-{teacher.digest[:16]}",
        f"round {coming.index}, student",
        lambda into: task.train_student(images, labels, coming, teacher=teacher, into=into),
    )


def _control(
    e: Experiment, task: Task, labeled: TaskData, history: History, trainings: _Trainings
) -> SavedModel | None:
    control = control_plan(e, history)
    if control is None:
        return None
    name = f"control-{history.best.model_digest[:16]}"
    return trainings.once(name, "control", lambda into: task.train_control(labeled, control, into=into))


def _baseline(
    e: Experiment,
    task: Task,
    labeled: TaskData,
    history: History,
    first: SavedModel,
    control: SavedModel | None,
    trainings: _Trainings,
) -> SavedModel:
    """The baseline; the `control`, if it is that already."""
    coming = baseline_plan(e, history)
    if control is not None and same_training(coming, control_plan(e, history)):
        return control
    name = f"baseline-{coming.index}-{first.digest[:16]}"
    return trainings.once(
        name, "baseline", lambda into: task.train_baseline(labeled, coming, first_teacher=first, into=into)
    )
