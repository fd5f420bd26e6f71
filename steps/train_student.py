"""The student's training step."""

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
from selftrain.selflabel.rounds.plan import Plan
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(
    cache_policy=CachePolicy(cache_func=code_digest.train_student, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"student": ModelMaterializer},
)
def train_student(
    manifest: Manifest,
    labels: PseudoLabels,
    place: Place,
    plan: Plan,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
    teacher: SavedModel | None = None,
) -> Annotated[SavedModel, "student"]:
    """Train a new student, or `teacher` further. `weights` adds the weights file's sha256 to the cache key."""
    start_keras()
    dataset = with_shards(open_dataset(place, machine), manifest, dataset_version)
    with destination(dataset, "student") as into:
        data = TaskData(manifest, dataset)
        return task_of(plan.task).train_student(data, labels, plan, teacher=teacher, into=into)
