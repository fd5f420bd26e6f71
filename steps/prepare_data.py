"""All steps that need the files of the data set on one disk, in one pod."""

from typing import Annotated

from zenml import step
from zenml.types import HTMLString

from selftrain.adapters.expectations.validate import require_passed
from selftrain.adapters.registry.starting_models import teacher_backbone
from selftrain.adapters.runs.lifecycle import clean_up
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.adapters.snapshots.carrying import shared_state
from selftrain.config import Experiment, Machine
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.store.dataset import open_dataset
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.start import check_start
from selftrain.selflabel.selection.thresholds import check_classes
from steps.ingest import ingest
from steps.scan import scan
from steps.snapshot import snapshot
from steps.validate import validate


@step(
    enable_cache=False,
    output_materializers=dict.fromkeys(("listing", "manifest", "development", "test"), TableMaterializer),
)
def prepare_data(
    experiment: Experiment,
) -> tuple[
    Annotated[Listing, "listing"],
    Annotated[Manifest, "manifest"],
    Annotated[Manifest, "development"],
    Annotated[Manifest, "test"],
    Annotated[IngestReport, "ingest_report"],
    Annotated[str | None, "earlier_test"],
    Annotated[str, "dataset_version"],
    Annotated[Machine, "machine"],
    Annotated[ValidationReport, "validation"],
    Annotated[HTMLString, "validation_page"],
]:
    """Scan, ingest, push the version and validate. What a run checks before its first training is checked here."""
    e, place = experiment, experiment.place
    with shared_state(place, "run"):
        clean_up(place, e.machine)
        check_start(e, teacher_backbone(e, open_dataset(place).workspace))
        listing, store_id, machine = scan.entrypoint(e.source, place, e.machine, e.ingest, e.inbox)
        manifest, development, test, ingested = ingest.entrypoint(
            listing, store_id, e.source, place, e.ingest, e.splitting, machine
        )
        version = snapshot.entrypoint(manifest, place)
        report, page = validate.entrypoint(manifest, ingested, place, e.checks)
        require_passed(report)
        check_classes(e.pseudo_label.threshold, manifest.label_map.names)
    return listing, manifest, development, test, ingested, ingested.earlier_test, version, machine, report, page
