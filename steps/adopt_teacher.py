"""The step that takes a teacher from the registry, the user or class names instead of training one."""

from functools import partial
from typing import Annotated

from zenml import step

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.starting_models import starting_teacher
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place, Registry, Teacher
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.teaching.labeled_sample import sample_when_asked


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
    dataset = open_dataset(place, machine)
    return starting_teacher(
        start,
        workspace=dataset.workspace,
        settings=settings,
        class_names=manifest.label_map.names,
        image_size=image_size,
        version=version,
        labeled=sample_when_asked(manifest, partial(with_shards, dataset, manifest, dataset_version)),
        bits=manifest.bits,
    )
