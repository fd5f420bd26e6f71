"""The pseudo-labelling step."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place, PseudoLabel, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.graph.spaces import NO_SPACES, Spaces
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.task import TaskData, label_pool, task_of


@step(
    cache_policy=CachePolicy(cache_func=code_digest.pseudo_label, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"pseudo_labels": TableMaterializer},
)
def pseudo_label(
    manifest: Manifest,
    teacher: SavedModel,
    place: Place,
    task: TaskName,
    settings: PseudoLabel,
    round_index: int,
    machine: Machine,
    dataset_version: str,
    spaces: Spaces = NO_SPACES,
) -> Annotated[PseudoLabels, "pseudo_labels"]:
    """Label the whole unlabelled pool with the round's teacher, and accept labels by the threshold."""
    start_keras()
    data = TaskData(manifest, with_shards(open_dataset(place, machine), manifest, dataset_version))
    with progress("pseudo-label") as show:
        return label_pool(
            task_of(task), data, teacher, settings=settings, round_index=round_index, spaces=spaces, progress=show
        )
