"""The step that makes pseudo-labels of the answers of all shard groups."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import Machine, Place, PseudoLabel, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.shard_groups import GroupAnswers, join_groups
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(
    cache_policy=CachePolicy(cache_func=code_digest.label_shard, ignored_inputs=["answers", "machine"]),
    output_materializers={"pseudo_labels": TableMaterializer},
)
def join_labels(
    manifest: Manifest,
    teacher: SavedModel,
    answers: list[GroupAnswers],
    place: Place,
    task: TaskName,
    settings: PseudoLabel,
    round_index: int,
    machine: Machine,
) -> Annotated[PseudoLabels, "pseudo_labels"]:
    """Calibrate, and accept labels by the threshold, over the whole pool. How it was grouped is not part of the key."""
    start_keras()
    data = TaskData(manifest, open_dataset(place, machine))
    return join_groups(task_of(task), data, teacher, answers, settings=settings, round_index=round_index)
