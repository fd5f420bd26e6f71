"""The step that takes a teacher from the registry, the user or class names instead of training one."""

from typing import Annotated

from zenml import step

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.starting_models import starting_teacher
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Place, Registry, Teacher
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel


@step(enable_cache=False, output_materializers={"teacher": ModelMaterializer})
def adopt_teacher(
    manifest: Manifest, place: Place, start: Teacher, image_size: int, settings: Registry, version: int | None = None
) -> Annotated[SavedModel, "teacher"]:
    """Take the champion, a user's own model or a zero-shot model as the first teacher. Every run looks it up again."""
    start_keras()
    return starting_teacher(
        start,
        workspace=open_dataset(place).workspace,
        settings=settings,
        class_names=manifest.label_map.names,
        image_size=image_size,
        version=version,
    )
