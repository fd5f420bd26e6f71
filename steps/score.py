"""The step that scores a model on validation, for the gate."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(cache_policy=CachePolicy(cache_func=code_digest.evaluate, ignored_inputs=["machine", "dataset_version"]))
def score(
    development: Manifest, model: SavedModel, place: Place, task: TaskName, machine: Machine, dataset_version: str
) -> Annotated[Scores, "scores"]:
    """The scores of `model` on validation: the gate's metrics and the calibration."""
    start_keras()
    dataset = with_shards(open_dataset(place, machine), development, dataset_version)
    return task_of(task).score(TaskData(development, dataset), model)
