"""The ingest report: how many images a run took in, how many it left out, and why."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from selftrain.data.ingest.ingest import IngestResult
from selftrain.data.store.test_sets import version_after


class IngestReport(BaseModel):
    """Counts of the files that ingest left out, and the table that names them.

    `quarantined` files cannot be used, or are copies. Images of held-out groups (`excluded_groups`), `reserved` and
    `disputed` images are in the table too, but have counts of their own. `grouped` says whether any image
    has a group. `earlier_test` names the version of the test
    set before this one, which is the version `test_version`.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    quarantined: int
    quarantine_share: float
    quarantine_table: str
    excluded: int
    unlabeled_copies: int
    ignored_files: int
    files_read: int
    excluded_groups: int = 0
    reserved: int = 0
    disputed: int = 0
    misnamed: int = 0
    grouped: bool = False
    test_version: int = 1
    earlier_test: str | None = None


def report_ingested(ingested: IngestResult, quarantine_table: Path) -> IngestReport:
    """The counts of `ingested`, whose table of left-out files is at `quarantine_table`."""
    return IngestReport(
        images=len(ingested.manifest),
        quarantined=ingested.quarantine.num_rows - ingested.held_out_groups - ingested.reserved - ingested.disputed,
        quarantine_share=ingested.quarantine_share,
        quarantine_table=str(quarantine_table),
        excluded=ingested.held_out_copies,
        unlabeled_copies=ingested.unlabeled_copies,
        ignored_files=ingested.ignored_files,
        files_read=ingested.files_read,
        excluded_groups=ingested.held_out_groups,
        reserved=ingested.reserved,
        disputed=ingested.disputed,
        misnamed=ingested.misnamed,
        grouped=ingested.grouped,
        test_version=version_after(ingested.earlier_test),
        earlier_test=ingested.earlier_test,
    )
