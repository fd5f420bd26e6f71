"""The validate step: checks the manifest before anything is trained."""

from pathlib import Path
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy
from zenml.types import HTMLString

from selftrain.adapters.expectations import validate as expectations
from selftrain.adapters.process import code_digest
from selftrain.config import Checks, Place
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.report.validation import ValidationReport


@step(cache_policy=CachePolicy(cache_func=code_digest.validate))
def validate(
    manifest: Manifest, ingested: IngestReport, place: Place, checks: Checks
) -> tuple[Annotated[ValidationReport, "validation"], Annotated[HTMLString, "validation_page"]]:
    """Validate with Great Expectations. The report and its page stay with the run, whatever the outcome."""
    dataset, share = open_dataset(place), ingested.quarantine_share
    folder = expectations.report_folder(dataset.workspace, manifest, share, checks)
    report = expectations.validate(manifest, share, checks, folder, dataset.store)
    return report, HTMLString(Path(report.page).read_text())
