"""The step that fits the baseline, which every run is compared with."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.destination import destination
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.plan import BaselinePlan
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(
    cache_policy=CachePolicy(cache_func=code_digest.baseline, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"baseline": ModelMaterializer},
)
def train_baseline(
    development: Manifest,
    first_teacher: SavedModel,
    place: Place,
    plan: BaselinePlan,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> Annotated[SavedModel, "baseline"]:
    """Fit a head to the human labels alone. `weights` adds the weights file's sha256 to the cache key."""
    start_keras()
    dataset = with_shards(open_dataset(place, machine), development, dataset_version)
    with destination(dataset, "baseline") as into:
        data = TaskData(development, dataset)
        return task_of(plan.task).train_baseline(data, plan, first_teacher=first_teacher, into=into)
