"""The last step: the run's record, in ZenML, in MLflow and on the console."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.tracking.recording import RunFacts, record_run
from selftrain.config import Experiment
from selftrain.data.manifest import Manifest
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord


@step(enable_cache=False)
def record(
    experiment: Experiment,
    manifest: Manifest,
    facts: RunFacts,
    ended: Outcome,
    report: EvaluationReport,
    registration: Registration,
) -> Annotated[RunRecord, "record"]:
    """Close the run's MLflow run with all its numbers, print the summary, keep the record."""
    run_id = str(get_step_context().pipeline_run.id)
    return record_run(experiment, manifest, facts, ended, report, registration, run_id=run_id)
