"""The step that evaluates on the test set, once, after the verdict."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(cache_policy=CachePolicy(cache_func=code_digest.evaluate, ignored_inputs=["machine", "dataset_version"]))
def read_test(
    test: Manifest,
    final: SavedModel,
    first_teacher: SavedModel,
    place: Place,
    task: TaskName,
    machine: Machine,
    dataset_version: str,
    control: SavedModel | None = None,
    baseline: SavedModel | None = None,
    earlier: str | None = None,
) -> Annotated[EvaluationReport, "evaluation"]:
    """Evaluate the final model on test, and compare it with the first teacher, the control and the baseline.

    `earlier` names the version of the test set before this one; the images of both also have scores of their own.
    """
    start_keras()
    data = TaskData(test, with_shards(open_dataset(place, machine), test, dataset_version, test_set=earlier))
    before = data.dataset.tests.read(earlier)
    models = (final, first_teacher, control)
    return task_of(task).evaluate_on_test(data, *models, baseline=baseline, earlier=before)
