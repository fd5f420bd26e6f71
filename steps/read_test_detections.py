"""The step that evaluates detectors on the test set, once, after the verdict."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Machine, Place
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.detection import DetectionReport
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.detection.answers import report_on_test
from selftrain.selflabel.detection.data import DetectionData


@step(
    cache_policy=CachePolicy(cache_func=code_digest.detection, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"detections": TableMaterializer},
)
def read_test_detections(
    test: Manifest,
    objects: Annotations,
    final: SavedDetector,
    first_teacher: SavedDetector,
    place: Place,
    machine: Machine,
    dataset_version: str,
    control: SavedDetector | None = None,
) -> tuple[Annotated[Annotations, "detections"], Annotated[DetectionReport, "evaluation"]]:
    """Evaluate the final detector on test, and compare it with the first teacher and the control.

    `detections` are what the final one found there.
    """
    start_keras()
    data = DetectionData(test, objects, with_shards(open_dataset(place, machine), test, dataset_version))
    report, detections = report_on_test(data, final, first_teacher, control)
    return detections, report  # ZenML gives outputs whose materializer is named before the others
