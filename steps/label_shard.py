"""The step that labels one group of shards of the pool; a run has one per group."""

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
from selftrain.selflabel.teaching.shard_groups import GroupAnswers, ShardGroup, images_of, label_group, named
from selftrain.selflabel.teaching.task import TaskData, task_of


@step(
    cache_policy=CachePolicy(
        cache_func=code_digest.label_shard, ignored_inputs=["manifest", "machine", "dataset_version"]
    ),
    output_materializers={"answers": TableMaterializer},
)
def label_shard(
    manifest: Manifest,
    teacher: SavedModel,
    place: Place,
    task: TaskName,
    settings: PseudoLabel,
    group: ShardGroup,
    machine: Machine,
    dataset_version: str,
    spaces: Spaces = NO_SPACES,
) -> Annotated[GroupAnswers, "answers"]:
    """Ask the teacher for the images of `group`, which names them: a pool that grows elsewhere asks none again."""
    start_keras()
    with named(group), progress("label shards") as show:
        images = images_of(manifest, group, settings)
        data = TaskData(images, with_shards(open_dataset(place, machine), images, dataset_version))
        return label_group(task_of(task), data, teacher, settings=settings, spaces=spaces, progress=show)
