"""The registration step."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.registry.settlement import register_and_promote
from selftrain.config import Machine, Place, Registry
from selftrain.data.manifest import Manifest
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
    settings: Registry,
    machine: Machine,
    run_key: str,
    dataset_version: str,
) -> Annotated[Registration, "registration"]:
    """Register the model of a passed run, once; never taken from the cache."""
    run_id = str(get_step_context().pipeline_run.id)
    return register_and_promote(
        manifest,
        final,
        report,
        ended,
        place=place,
        settings=settings,
        machine=machine,
        run_id=run_id,
        run_key=run_key,
        dataset_version=dataset_version,
    )
