"""The loop in one function: what pipelines/ssl_pipeline.py wires step by step, for those who run without an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.config import Experiment
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import Dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.progress import Progress, noting, silent
from selftrain.selflabel.rounds.history import History, Verdict
from selftrain.selflabel.rounds.plan import Plan, control_plan, plan, teacher_plan
from selftrain.selflabel.teaching.task import Destination, Task, TaskData, label_pool, task_of

if TYPE_CHECKING:
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class LoopResult:
    """A loop that came to its end: a model a round, and the pseudo-labels of each round after the first teacher.

    `labeled` are the images with human labels. A student that diverged is a model without weights. There is one set of
    labels more than there are students where a guard stopped the loop at them. `control` is the supervised control,
    where one was asked for; it can have diverged, too.
    """

    history: History
    models: tuple[SavedModel, ...]
    labels: tuple[PseudoLabels, ...]
    control: SavedModel | None
    labeled: TaskData

    @property
    def final(self) -> SavedModel:
        """The best model by validation."""
        return self.models[self.history.best.index]


@dataclass(frozen=True)
class _Trainings:
    """The trainings of one loop: a model that is in its folder already is taken as it is."""

    folder: Path
    checkpoints: Checkpoints
    progress: Progress

    def once(self, name: str, note: str, train: Callable[[Destination], SavedModel]) -> SavedModel:
        """The model in the folder `name`, trained if it is not there."""
        from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel

        place = self.folder / name
        if (place / CONTRACT_FILE).is_file():
            return SavedModel.read(place)
        return train(Destination(place, self.checkpoints, noting(self.progress, note)))


def run_loop(
    e: Experiment,
    manifest: Manifest,
    dataset: Dataset,
    *,
    folder: Path,
    checkpoints: Checkpoints,
    first_teacher: SavedModel | None = None,
    progress: Progress = silent,
) -> LoopResult:
    """Teacher, then pseudo-labels and a student a round, until the gate or a guard ends it; test is not read.

    Models are saved below `folder`, which no loop of other settings, data or code may share: a model that is there is
    taken as it is, a student if the same teacher taught it. So a loop that was killed goes on with the round it was in,
    and with the training it was in from its `checkpoints`. `first_teacher` None: it is trained.
    """
    from selftrain.selflabel.rounds.gate import judge
    from selftrain.selflabel.rounds.outcome import minutes
    from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards, with_round_of
    from selftrain.selflabel.selection.thresholds import check_classes

    check_classes(e.pseudo_label.threshold, manifest.label_map.names)
    task, images = task_of(e.task), TaskData(manifest, dataset)
    labeled, trainings = TaskData(manifest.labeled(), dataset), _Trainings(folder, checkpoints, progress)
    first = teacher_plan(e)
    teacher = first_teacher or trainings.once(
        "0", "teacher", lambda into: task.train_teacher(labeled, first, into=into)
    )
    models, labels = [teacher], list["PseudoLabels"]()
    history = History().with_round(teacher_round(manifest, teacher, task.score(labeled, teacher), e.gate))
    while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
        coming = plan(e, history)
        teacher = models[coming.teacher]
        pseudo_labels = label_pool(
            task,
            images,
            teacher,
            settings=e.pseudo_label,
            round_index=coming.index,
            progress=noting(progress, f"round {coming.index}, pseudo-labels"),
        )
        history = with_guards(history, e.guards, manifest, pseudo_labels, method=coming.recipe.method)
        labels.append(pseudo_labels)
        if history.stopped:
            break
        student = _student(task, images, pseudo_labels, coming, teacher, trainings)
        scores = task.score(labeled, student)
        finished = student_round(
            coming.index, manifest, pseudo_labels, student, scores, e.gate, method=e.student.method
        )
        history = with_round_of(history, e.guards, e.gate, finished)
        models.append(student)
    return LoopResult(history, tuple(models), tuple(labels), _control(e, task, labeled, history, trainings), labeled)


def evaluate_on_test(e: Experiment, ended: LoopResult) -> EvaluationReport:
    """The final model on test, against the first teacher (and the control) on the same images: once, at the end."""
    return task_of(e.task).evaluate_on_test(ended.labeled, ended.final, ended.models[0], ended.control)


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
