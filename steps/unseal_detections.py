"""The step that counts test-set evaluations of detectors before any is made."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models import divergence
from selftrain.selflabel.teaching.evaluation_count import count_digests


@step(enable_cache=False)
def unseal_detections(
    manifest: Manifest,
    final: SavedDetector,
    first_teacher: SavedDetector,
    place: Place,
    control: SavedDetector | None = None,
) -> Annotated[int, "test_looks"]:
    """Count each detector that will be evaluated on the test images, once; returns all evaluations so far."""
    tracking = open_tracking(open_dataset(place).workspace.root)
    log = TrackedEvaluations(tracking, str(get_step_context().pipeline_run.id))
    asked = [each for each in (final, first_teacher, control) if each is not None and divergence.reason(each) is None]
    models = {each.digest for each in asked}
    return count_digests(log, manifest, models)
