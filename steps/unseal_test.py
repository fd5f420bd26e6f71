"""The step that counts a look at test before it is taken."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.tracking import count_test_look, open_tracking
from selftrain.config import Place
from selftrain.data import dataset
from selftrain.data.manifest import Manifest, Split
from selftrain.learn.contract import SavedModel


@step(enable_cache=False)
def unseal_test(manifest: Manifest, final: SavedModel, place: Place) -> Annotated[int, "test_looks"]:
    """Count this look at the test images, once a model; returns how many there have been."""
    return count_test_look(
        open_tracking(dataset.workspace(place).root),
        test_digest=manifest.split_digest(Split.TEST),
        run_id=str(get_step_context().pipeline_run.id),
        model_digest=final.digest,
    )
