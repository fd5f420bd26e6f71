"""The training step of a first detector."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.destination import destination
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.config import Detection, Machine, Place
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.detection.data import DetectionData
from selftrain.selflabel.detection.work import train_first


@step(
    cache_policy=CachePolicy(cache_func=code_digest.detection, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"teacher": ModelMaterializer},
)
def train_detector(
    development: Manifest,
    objects: Annotations,
    place: Place,
    settings: Detection,
    seed: int,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> Annotated[SavedDetector, "teacher"]:
    """Train the first teacher on the marked objects. `weights` adds the weights file's sha256 to the cache key."""
    start_keras()
    data = DetectionData(development, objects, with_shards(open_dataset(place, machine), development, dataset_version))
    with destination(data.dataset, "detector", code=code_digest.detection) as into:
        return train_first(data, settings, seed=seed, into=into, weights=weights)
