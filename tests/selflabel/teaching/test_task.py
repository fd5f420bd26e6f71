"""The task seam: what the loop asks of a task, and that it asks nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selftrain.config import Experiment, Fixed, Gate, PseudoLabel, Student, Teacher
from selftrain.data.manifest import Int64s, Manifest, Split
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.detail import DetailedComparison
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import CONTRACT_FILE, Contract, SavedModel
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.progress import Progress, silent
from selftrain.selflabel.graph.spaces import NO_SPACES, Spaces
from selftrain.selflabel.loop import LoopResult, run_loop
from selftrain.selflabel.rounds.plan import BaselinePlan, ControlPlan, Plan, TeacherPlan
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.teaching.task import Destination, Task, TaskData, task_of
from tests.selflabel.rounds.test_results import NAMES, manifest_of

METHODS = sorted(name for name, _ in inspect.getmembers(Task, inspect.isfunction) if not name.startswith("_"))


@pytest.mark.parametrize("method", METHODS)
def test_classification_has_the_methods_of_a_task_with_their_parameters(method: str) -> None:
    parameters = inspect.signature(getattr(Task, method)).parameters
    assert inspect.signature(getattr(type(task_of("classification")), method)).parameters == parameters


@dataclass
class ScriptedTask:
    """Models whose accuracy on validation follows a list, and that are sure of the first class."""

    accuracies: dict[str, float]
    trained: list[str] = field(default_factory=list)
    labelled: list[str] = field(default_factory=list)

    def _train(self, name: str, backbone: str, into: Destination) -> SavedModel:
        self.trained.append(name)
        contract = Contract(backbone=backbone, image_size=16, class_names=NAMES, values_sha256=name, image_steps=1000)
        into.folder.mkdir(parents=True)
        (into.folder / CONTRACT_FILE).write_text(contract.model_dump_json())
        return SavedModel(into.folder, contract)

    def train_teacher(self, data: TaskData, plan: TeacherPlan, *, into: Destination) -> SavedModel:
        return self._train("teacher", plan.backbone, into)

    def train_student(
        self, data: TaskData, labels: PseudoLabels, plan: Plan, *, teacher: SavedModel | None, into: Destination
    ) -> SavedModel:
        return self._train(f"student {plan.index}", plan.backbone, into)

    def train_control(self, data: TaskData, plan: ControlPlan, *, into: Destination) -> SavedModel:
        assert not len(data.manifest.rows(Split.UNLABELED))
        return self._train(f"control {plan.index}", plan.backbone, into)

    def train_baseline(
        self, data: TaskData, plan: BaselinePlan, *, first_teacher: SavedModel, into: Destination
    ) -> SavedModel:
        assert not len(data.manifest.rows(Split.UNLABELED))
        features = first_teacher.contract.identity if plan.of_teacher else plan.backbone
        return self._train(f"baseline on {features}", plan.backbone, into)

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
        self.labelled.append(teacher.contract.identity)
        return pa.table({"row": rows})

    def join(
        self,
        data: TaskData,
        teacher: SavedModel,
        shards: Sequence[pa.Table],
        *,
        settings: PseudoLabel,
        round_index: int,
    ) -> PseudoLabels:
        rows = np.concatenate([shard["row"].to_numpy() for shard in shards])
        return select(
            data.manifest.image_ids()[rows],
            np.tile([0.98, 0.01, 0.01], (len(rows), 1)),
            settings,
            round_index=round_index,
            teacher=teacher.contract.identity,
            class_names=NAMES,
        )

    def score(self, data: TaskData, model: SavedModel) -> Scores:
        accuracy = self.accuracies[model.contract.identity]
        return Scores(
            images=60,
            accuracy=accuracy,
            macro_f1=accuracy,
            log_loss=1 - accuracy,
            calibration_error=0.0,
            calibration_error_uncalibrated=0.0,
        )

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
        raise AssertionError("the loop reads no test image")

    def compare_on_test(self, data: TaskData, model: SavedModel, reference: SavedModel) -> DetailedComparison:
        raise AssertionError("the loop reads no test image")


def looped(task: ScriptedTask, folder: Path) -> LoopResult:
    e = Experiment(
        workspace=str(folder / "workspace"),
        image_size=16,
        control="supervised",
        teacher=Teacher(backbone="mobilenet_v2_035"),
        student=Student(backbone="mobilenet_v2_100"),
        pseudo_label=PseudoLabel(threshold=Fixed(value=0.9)),
        gate=Gate(target=0.95, min_rounds=3, max_rounds=3),
    )
    return run_loop(
        e,
        manifest_of(training=6, pool=12),
        open_dataset(e.place, e.machine),
        folder=folder / "models",
        checkpoints=Checkpoints(folder / "checkpoints"),
        task=task,
    )


ACCURACIES = {"teacher": 0.5, "student 1": 0.8, "student 2": 0.3, "student 3": 0.9}


def test_the_loop_runs_any_task_and_lets_the_newest_kept_model_teach(tmp_path: Path) -> None:
    task = ScriptedTask(ACCURACIES)
    result = looped(task, tmp_path)
    assert [each.kept for each in result.history.rounds] == [True, True, False, True]
    assert task.trained == ["teacher", "student 1", "student 2", "student 3", "control 3", "baseline on teacher"]
    assert task.labelled == ["teacher", "student 1", "student 1"]
    assert [each.accepted.num_rows for each in result.labels] == [12, 12, 12]
    assert result.final.contract.identity == "student 3"
    assert result.control is not None


def test_a_loop_that_is_run_again_trains_nothing(tmp_path: Path) -> None:
    first = looped(ScriptedTask(ACCURACIES), tmp_path)
    again = ScriptedTask(ACCURACIES)
    assert looped(again, tmp_path).history == first.history
    assert again.trained == []


def test_a_first_teacher_that_stays_the_best_model_has_no_control(tmp_path: Path) -> None:
    task = ScriptedTask({"teacher": 0.8, "student 1": 0.3, "student 2": 0.4, "student 3": 0.5})
    result = looped(task, tmp_path)
    assert result.control is None
    assert result.final.contract.identity == "teacher"
    assert task.labelled == ["teacher"] * 3
