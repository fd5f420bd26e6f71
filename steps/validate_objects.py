"""The validate step of a detector's run: checks the manifest and its objects before anything is trained."""

from pathlib import Path
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy
from zenml.types import HTMLString

from selftrain.adapters.expectations import objects as expectations
from selftrain.adapters.process import code_digest
from selftrain.config import Checks, Place
from selftrain.data.annotations.table import Annotations
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.data.sources.objects.labelled import DrawnBoxes
from selftrain.data.store.dataset import open_dataset
from selftrain.report.validation import ValidationReport


@step(cache_policy=CachePolicy(cache_func=code_digest.validate_objects))
def validate_objects(
    manifest: Manifest,
    objects: Annotations,
    test_objects: Annotations,
    drawn: DrawnBoxes,
    ingested: IngestReport,
    place: Place,
    checks: Checks,
    view: int,
) -> tuple[Annotated[ValidationReport, "validation"], Annotated[HTMLString, "validation_page"]]:
    """Validate with Great Expectations. The report and its page stay with the run, whatever the outcome."""
    dataset, share, every = open_dataset(place), ingested.quarantine_share, objects.and_also(test_objects)
    folder = expectations.object_report_folder(dataset.workspace, manifest, every, drawn, share, checks, view=view)
    report = expectations.validate_objects(manifest, every, drawn, share, checks, folder, dataset.store, view=view)
    return report, HTMLString(Path(report.page).read_text())
