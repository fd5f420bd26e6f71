"""The step that counts the looks at test before they are taken."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.tracking.looks import count_looks
from selftrain.config import Place
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel


@step(enable_cache=False)
def unseal_test(
    manifest: Manifest,
    final: SavedModel,
    first_teacher: SavedModel,
    place: Place,
    control: SavedModel | None = None,
) -> Annotated[int, "test_looks"]:
    """Count each model that will be read on the test images, once; returns how many there have been."""
    run_id = str(get_step_context().pipeline_run.id)
    return count_looks(manifest, (final, first_teacher, control), place=place, run_id=run_id)
