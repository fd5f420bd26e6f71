"""The registration step."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.registry.settlement import Candidate, OpenStores, RunKeys, register_and_promote
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Machine, Place, Registry, TaskName
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration


@step(enable_cache=False)
def register(
    manifest: Manifest,
    final: SavedModel,
    report: EvaluationReport,
    ended: Outcome,
    place: Place,
    task: TaskName,
    settings: Registry,
    machine: Machine,
    run_key: str,
    dataset_version: str,
) -> Annotated[Registration, "registration"]:
    """Register the model of a run that passed, and promote it if it proves better. Never taken from the cache."""
    dataset = open_dataset(place, machine)
    return register_and_promote(
        Candidate(manifest, final, report, ended, task),
        RunKeys(str(get_step_context().pipeline_run.id), run_key, dataset_version),
        OpenStores(dataset, open_tracking(dataset.workspace.root), settings),
    )
