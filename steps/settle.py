"""The last step of an unrolled loop: registers its model and keeps the run's record, in one pod."""

from typing import Annotated

from zenml import step

from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.adapters.runs.lifecycle import run_key
from selftrain.adapters.snapshots.carrying import shared_state
from selftrain.adapters.snapshots.fetching import with_shards
from selftrain.adapters.tracking.recording import RunFacts
from selftrain.config import Experiment, Machine
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.listing import Listing
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.outcome import outcome
from selftrain.selflabel.rounds.record import RunRecord
from steps.record import record
from steps.register import register


@step(enable_cache=False)
def settle(
    experiment: Experiment,
    listing: Listing,
    manifest: Manifest,
    ingested: IngestReport,
    validation: ValidationReport,
    history: History,
    final: SavedModel,
    report: EvaluationReport,
    machine: Machine,
    dataset_version: str,
) -> Annotated[RunRecord, "record"]:
    """Register the final model and write the record. The trial and the comparison with a champion read images."""
    e, place, ended = experiment, experiment.place, outcome(experiment.gate, history)
    refuse_withdrawn(final, place)
    key = run_key(e, manifest.digest, history.best.model_digest)
    facts = RunFacts(ingested=ingested, validation=validation, dataset_version=dataset_version)
    with shared_state(place, "run"):
        with_shards(open_dataset(place, machine), manifest.part(Split.VALIDATION, Split.TEST), dataset_version)
        registration = register.entrypoint(
            manifest, final, report, ended, place, e.task, e.registry, machine, key, dataset_version
        )
        finished: RunRecord = record.entrypoint(e, listing, manifest, facts, ended, report, registration)
    return finished
