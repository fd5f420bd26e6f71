"""The step that takes a first detector from the registry or the user instead of training one."""

from typing import Annotated

from zenml import step

from selftrain.adapters.registry.starting_models import starting_detector
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Place, Registry
from selftrain.data.annotations.table import Annotations
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.detection.saving import SavedDetector


@step(enable_cache=False, output_materializers={"teacher": ModelMaterializer})
def adopt_detector(
    objects: Annotations, place: Place, start: str, settings: Registry, version: int | None
) -> Annotated[SavedDetector, "teacher"]:
    """Take the champion or a saved detector as the first teacher. Every run looks it up again."""
    return starting_detector(
        start,
        workspace=open_dataset(place).workspace,
        settings=settings,
        class_names=objects.label_map.names,
        version=version,
    )
