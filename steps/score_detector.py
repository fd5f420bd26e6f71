"""The step that scores a detector on validation, for the gate."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Detection, Machine, Place
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.detection.data import DetectionData
from selftrain.selflabel.detection.work import DetectorScores, score


@step(cache_policy=CachePolicy(cache_func=code_digest.detection, ignored_inputs=["machine", "dataset_version"]))
def score_detector(
    development: Manifest,
    objects: Annotations,
    detector: SavedDetector,
    place: Place,
    settings: Detection,
    machine: Machine,
    dataset_version: str,
) -> Annotated[DetectorScores, "scores"]:
    """The numbers of `detector` on validation, and whether it may teach."""
    start_keras()
    data = DetectionData(development, objects, with_shards(open_dataset(place, machine), development, dataset_version))
    return score(data, detector, settings)
