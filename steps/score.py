"""The step that scores a model on validation, for the gate."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.config import Machine, Place, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(cache_policy=CachePolicy(cache_func=code_digest.evaluate, ignored_inputs=["machine"]))
def score(
    development: Manifest, model: SavedModel, place: Place, task: TaskName, machine: Machine
) -> Annotated[Scores, "scores"]:
    """The scores of `model` on validation: the gate's metrics and the calibration."""
    start_keras()
    return task_of(task).score(TaskData(development, open_dataset(place, machine)), model)
