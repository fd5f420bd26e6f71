"""Classification: a label is one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.progress import Progress, silent
from selftrain.selflabel.graph.spaces import NO_SPACES, Spaces

if TYPE_CHECKING:
    import pyarrow as pa

    from selftrain.config import PseudoLabel
    from selftrain.data.manifest import Int64s, Manifest
    from selftrain.evaluate.detail import DetailedComparison
    from selftrain.evaluate.evaluation import EvaluationReport
    from selftrain.learn.models.contract import SavedModel
    from selftrain.selflabel.rounds.plan import BaselinePlan, ControlPlan, Plan, TeacherPlan
    from selftrain.selflabel.rounds.scores import Scores
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
    from selftrain.selflabel.teaching.task import Destination, TaskData


class Classification:
    """A task (`task.Task`) whose models read square images and answer logits (n, classes).

    Each method imports what it needs, so that a step's cache key covers only the code behind the step.
    """

    def train_teacher(self, data: TaskData, plan: TeacherPlan, *, into: Destination) -> SavedModel:
        """See `training.train_teacher`."""
        from selftrain.selflabel.teaching.training import train_teacher

        return train_teacher(data.manifest, data.pixels(plan.image_size), plan, into=into)

    def train_student(
        self, data: TaskData, labels: PseudoLabels, plan: Plan, *, teacher: SavedModel | None, into: Destination
    ) -> SavedModel:
        """See `training.train_student`."""
        from selftrain.selflabel.teaching.training import train_student

        return train_student(data.manifest, labels, data.pixels(plan.image_size), plan, teacher=teacher, into=into)

    def train_control(self, data: TaskData, plan: ControlPlan, *, into: Destination) -> SavedModel:
        """See `training.train_control`."""
        from selftrain.selflabel.teaching.training import train_control

        return train_control(data.manifest, data.pixels(plan.image_size), plan, into=into)

    def train_baseline(
        self, data: TaskData, plan: BaselinePlan, *, first_teacher: SavedModel, into: Destination
    ) -> SavedModel:
        """See `baseline.train_baseline`; the first teacher's features are those of images of its own size."""
        from selftrain.selflabel.teaching.baseline import train_baseline

        size = first_teacher.contract.image_size if plan.of_teacher else plan.image_size
        return train_baseline(data.manifest, data.pixels(size), plan, first_teacher=first_teacher, into=into)

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
        """See `labeling.label_shard`; the images of each shard of the store are a part."""
        from selftrain.selflabel.teaching.labeling import label_shard

        pixels, parts = data.pixels(teacher.contract.image_size), data.by_shard(rows)
        others = {space: data.pixels(space.image_size) for space in spaces.networks}
        return label_shard(pixels, teacher, *parts, settings=settings, spaces=others, progress=progress)

    def join(
        self,
        data: TaskData,
        teacher: SavedModel,
        shards: Sequence[pa.Table],
        *,
        settings: PseudoLabel,
        round_index: int,
    ) -> PseudoLabels:
        """See `labeling.join`."""
        from selftrain.selflabel.teaching.labeling import join

        return join(data.manifest, teacher, shards, settings=settings, round_index=round_index)

    def score(self, data: TaskData, model: SavedModel) -> Scores:
        """See `scoring.score`."""
        from selftrain.selflabel.teaching.scoring import score

        return score(data.manifest, data.pixels_for(model.contract), model)

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
        """See `scoring.evaluate_on_test`."""
        from selftrain.selflabel.teaching.scoring import evaluate_on_test

        models, pixels_at = (final, first_teacher, control), data.pixels_for
        return evaluate_on_test(data.manifest, *models, baseline=baseline, pixels_at=pixels_at, earlier=earlier)

    def compare_on_test(self, data: TaskData, model: SavedModel, reference: SavedModel) -> DetailedComparison:
        """See `scoring.compare_on_test`."""
        from selftrain.selflabel.teaching.scoring import compare_on_test

        tests = data.dataset.tests
        earlier = tests.read(tests.before(data.manifest))
        return compare_on_test(data.manifest, model, reference, pixels_at=data.pixels_for, earlier=earlier)
