"""The registration step of a detector."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.registry.settlement import Candidate, OpenStores, RunKeys, register_and_promote
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Machine, Place, Registry
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.detection import DetectionReport
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration


@step(enable_cache=False)
def register_detector(
    manifest: Manifest,
    test_objects: Annotations,
    final: SavedDetector,
    report: DetectionReport,
    ended: Outcome,
    place: Place,
    settings: Registry,
    machine: Machine,
    run_key: str,
    dataset_version: str,
) -> Annotated[Registration, "registration"]:
    """Register the detector of a run that passed, and promote it if it proves better. Never taken from the cache."""
    dataset = open_dataset(place, machine)
    return register_and_promote(
        Candidate(manifest, final, report, ended, "detection", test_objects),
        RunKeys(str(get_step_context().pipeline_run.id), run_key, dataset_version),
        OpenStores(dataset, open_tracking(dataset.workspace.root), settings),
    )
