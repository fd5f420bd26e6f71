"""The last step of a detector's run: keeps its record in ZenML and MLflow, and prints it."""

import tempfile
from pathlib import Path
from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.retraining.life import decided
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.adapters.tracking.detection_pictures import draw_detections
from selftrain.adapters.tracking.recording import FinishedRun, RunFacts, record_run
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.listing import Listing
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.detection import DetectionReport
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.detection.data import DetectionData
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord


@step(enable_cache=False)
def record_detection(
    experiment: Experiment,
    listing: Listing,
    manifest: Manifest,
    facts: RunFacts,
    ended: Outcome,
    report: DetectionReport,
    registration: Registration,
    test_objects: Annotations,
    detections: Annotations,
    final: SavedDetector,
) -> Annotated[RunRecord, "record"]:
    """Close the MLflow run with all its numbers and pictures, print the summary, and return the record."""
    run = FinishedRun(str(get_step_context().pipeline_run.id), manifest, facts, ended, report, registration)
    dataset = open_dataset(experiment.place)
    with tempfile.TemporaryDirectory() as folder:
        test = manifest.part(Split.TEST)
        data = DetectionData(test, test_objects, with_shards(dataset, test, facts.dataset_version))
        pictures = Path(folder, "detections")
        draw_detections(data, detections, final.contract, pictures)
        finished = record_run(open_tracking(dataset.workspace.root), experiment, run, pictures=[pictures])
    decided(experiment, finished, manifest, listing)
    return finished
