"""The step that takes a teacher from the registry, the user or class names instead of training one."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from zenml import step

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.starting_models import starting_teacher
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place, Registry, Teacher
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.teaching.labeled_sample import labeled_sample
from selftrain.selflabel.teaching.task import TaskData


@step(enable_cache=False, output_materializers={"teacher": ModelMaterializer})
def adopt_teacher(
    manifest: Manifest,
    place: Place,
    start: Teacher,
    image_size: int,
    settings: Registry,
    version: int | None,
    machine: Machine,
    dataset_version: str,
) -> Annotated[SavedModel, "teacher"]:
    """Take the champion, a user's own model or a zero-shot model as the first teacher. Every run looks it up again."""
    start_keras()

    def labeled(side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        dataset = with_shards(open_dataset(place, machine), manifest, dataset_version)
        return labeled_sample(TaskData(manifest.labeled(), dataset), side)

    return starting_teacher(
        start,
        workspace=open_dataset(place).workspace,
        settings=settings,
        class_names=manifest.label_map.names,
        image_size=image_size,
        version=version,
        labeled=labeled,
    )
