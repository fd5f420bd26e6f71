"""The step that counts test-set evaluations before any is made."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.teaching.evaluation_count import count_evaluations


@step(enable_cache=False)
def unseal_test(
    manifest: Manifest,
    final: SavedModel,
    first_teacher: SavedModel,
    place: Place,
    control: SavedModel | None = None,
    baseline: SavedModel | None = None,
) -> Annotated[int, "test_looks"]:
    """Count each model that will be evaluated on the test images, once; returns all evaluations so far."""
    tracking = open_tracking(open_dataset(place).workspace.root)
    log = TrackedEvaluations(tracking, str(get_step_context().pipeline_run.id))
    return count_evaluations(log, manifest, (final, first_teacher, control, baseline))
