"""The training step of a detector that learns from images without labels too."""

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
from selftrain.selflabel.detection.work import DetectorScores, Taught, teach


@step(
    cache_policy=CachePolicy(cache_func=code_digest.detection, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"student": ModelMaterializer},
)
def teach_detector(
    manifest: Manifest,
    objects: Annotations,
    teacher: SavedDetector,
    scores: DetectorScores,
    place: Place,
    settings: Detection,
    seed: int,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> tuple[Annotated[SavedDetector, "student"], Annotated[Taught, "taught"]]:
    """Teach a student, on labels and on the pool. `scores` are the teacher's; `weights` is as in `train_detector`."""
    start_keras()
    data = DetectionData(manifest, objects, with_shards(open_dataset(place, machine), manifest, dataset_version))
    with destination(data.dataset, "student", code=code_digest.detection) as into:
        # ZenML sees two outputs only where a tuple is written out in the `return`.
        student, taught = teach(data, teacher, scores.thresholds or (), settings, seed=seed, into=into, weights=weights)
    return student, taught
