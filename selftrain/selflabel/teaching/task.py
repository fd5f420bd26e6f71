"""The task: what the loop needs from classification, and later from detection and instance segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, assert_never

import pyarrow as pa

from selftrain.config import PseudoLabel, TaskName
from selftrain.data.manifest import Int64s, Manifest
from selftrain.data.store.dataset import Dataset
from selftrain.data.store.pixels import Pixels
from selftrain.data.store.shards import by_shard
from selftrain.errors import ConfigError
from selftrain.progress import Progress, silent
from selftrain.selflabel.graph.spaces import NO_SPACES, Spaces
from selftrain.selflabel.teaching.asked import asked_rows

if TYPE_CHECKING:
    from selftrain.evaluate.detail import DetailedComparison
    from selftrain.evaluate.evaluation import EvaluationReport
    from selftrain.learn.models.contract import Contract, SavedModel
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.selflabel.rounds.plan import BaselinePlan, ControlPlan, Plan, TeacherPlan
    from selftrain.selflabel.rounds.scores import Scores
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class TaskData:
    """The images of a task: the rows of `manifest`, and the data set with their pixels."""

    manifest: Manifest
    dataset: Dataset

    def pixels(self, size: int) -> Pixels:
        """The images as uint8 (n, size, size, 3), aligned with the manifest's rows."""
        return self.dataset.pixels(self.manifest, size)

    def pixels_for(self, contract: Contract) -> Pixels:
        """The images as the model of `contract` reads them: at its size, and grey ones of 16 bits by its own bits."""
        return self.dataset.pixels(self.manifest.read_as(contract.bits), contract.image_size)

    def rows_to_label(self, settings: PseudoLabel) -> Int64s:
        """The rows (n,) that a teacher is asked about in a round (`asked.asked_rows`)."""
        return asked_rows(self.manifest, settings)

    def by_shard(self, rows: Int64s) -> list[Int64s]:
        """`rows` (k,) in one array per shard of the store, by the shards' names; the order within a shard stays."""
        shards = self.manifest.table["shard"].cast("string").take(pa.array(rows)).to_pylist()
        return [rows[at] for _, at in by_shard(shards)]


@dataclass(frozen=True)
class Destination:
    """Where a trained model and its checkpoints go, where its progress is reported, and how many devices train it."""

    folder: Path
    checkpoints: Checkpoints
    progress: Progress = silent
    devices: int | Literal["all"] = 1


class Task(Protocol):
    """What a task must do for the loop.

    The loop decides who teaches whom, and when to stop. The task knows what a label is. It trains models on labels,
    has them label images, and scores them.
    """

    def train_teacher(self, data: TaskData, plan: TeacherPlan, *, into: Destination) -> SavedModel:
        """A model trained on the human labels, calibrated on validation and saved."""
        ...

    def train_student(
        self, data: TaskData, labels: PseudoLabels, plan: Plan, *, teacher: SavedModel | None, into: Destination
    ) -> SavedModel:
        """A model trained on human and pseudo-labels; `teacher` lends its weights if the plan asks for them."""
        ...

    def train_control(self, data: TaskData, plan: ControlPlan, *, into: Destination) -> SavedModel:
        """The plan's network trained on the human labels alone."""
        ...

    def train_baseline(
        self, data: TaskData, plan: BaselinePlan, *, first_teacher: SavedModel, into: Destination
    ) -> SavedModel:
        """A simple classifier on frozen features, fitted to the human labels alone."""
        ...

    def label_shard(
        self,
        data: TaskData,
        teacher: SavedModel,
        rows: Int64s,
        *,
        settings: PseudoLabel,
        spaces: Spaces = NO_SPACES,
        progress: Progress = silent,
    ) -> pa.Table:
        """The answers of `teacher` for the images at `rows` (k,) of the manifest: one row per image, in that order.

        The column `row` names the image. The other columns are the task's own, among them the images' features in the
        `spaces`, if labels are to be spread over similar images. Shards are independent of each other.
        """
        ...

    def join(
        self,
        data: TaskData,
        teacher: SavedModel,
        shards: Sequence[pa.Table],
        *,
        settings: PseudoLabel,
        round_index: int,
    ) -> PseudoLabels:
        """Pseudo-labels from all shards: calibrated on validation, selected by the threshold over the whole pool."""
        ...

    def score(self, data: TaskData, model: SavedModel) -> Scores:
        """The scores of `model` on validation."""
        ...

    def evaluate_on_test(
        self,
        data: TaskData,
        final: SavedModel,
        first_teacher: SavedModel,
        control: SavedModel | None,
        *,
        baseline: SavedModel | None = None,
        earlier: Manifest | None = None,
    ) -> EvaluationReport:
        """The report on `final`, compared with the others on the same images: one test-set evaluation per model.

        The report also has the scores on the images of `earlier`, an earlier version of the test set.
        """
        ...

    def compare_on_test(self, data: TaskData, model: SavedModel, reference: SavedModel) -> DetailedComparison:
        """Compare `model` with `reference` on the same test images: one test-set evaluation each."""
        ...


def task_of(name: TaskName) -> Task:
    """The task called `name`."""
    match name:
        case "classification":
            from selftrain.selflabel.teaching.classification import Classification

            return Classification()
        case "detection":
            raise ConfigError(
                "a detector is trained by `selftrain run` or `selftrain.fit_detector`; this command knows classifiers"
            )
        case _:
            assert_never(name)


def label_pool(
    task: Task,
    data: TaskData,
    teacher: SavedModel,
    *,
    settings: PseudoLabel,
    round_index: int,
    spaces: Spaces = NO_SPACES,
    progress: Progress = silent,
) -> PseudoLabels:
    """The pseudo-labels of round `round_index`, with validation and the whole pool as one shard."""
    rows = data.rows_to_label(settings)
    shard = task.label_shard(data, teacher, rows, settings=settings, spaces=spaces, progress=progress)
    return task.join(data, teacher, [shard], settings=settings, round_index=round_index)
