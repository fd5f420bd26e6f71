"""The training step of a detector's control."""

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
from selftrain.selflabel.detection.work import train_longer


@step(
    cache_policy=CachePolicy(cache_func=code_digest.detection, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"control": ModelMaterializer},
)
def train_detector_control(
    development: Manifest,
    objects: Annotations,
    teacher: SavedDetector,
    place: Place,
    settings: Detection,
    rounds: int,
    seed: int,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> Annotated[SavedDetector, "control"]:
    """Let the first teacher go on for the steps of `rounds` students, on the marked objects alone."""
    start_keras()
    data = DetectionData(development, objects, with_shards(open_dataset(place, machine), development, dataset_version))
    with destination(data.dataset, "control", code=code_digest.detection) as into:
        return train_longer(data, teacher, settings, rounds=rounds, seed=seed, into=into, weights=weights)
