"""The record step: keeps the run's record in ZenML and MLflow, and prints it."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.retraining.life import decided
from selftrain.adapters.tracking.recording import FinishedRun, RunFacts, record_run
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord


@step(enable_cache=False)
def record(
    experiment: Experiment,
    listing: Listing,
    manifest: Manifest,
    facts: RunFacts,
    ended: Outcome,
    report: EvaluationReport,
    registration: Registration,
) -> Annotated[RunRecord, "record"]:
    """Close the MLflow run with all its numbers, print the summary, and return the record."""
    run = FinishedRun(str(get_step_context().pipeline_run.id), manifest, facts, ended, report, registration)
    finished = record_run(open_tracking(open_dataset(experiment.place).workspace.root), experiment, run)
    decided(experiment, finished, manifest, listing)
    return finished
