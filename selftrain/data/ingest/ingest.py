"""Ingest: every source file is read once, into shards and a Manifest; what cannot be used is quarantined."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.ingest.curate import CuratedRows, curate
from selftrain.data.ingest.reading import Reading, limits_of
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.earlier_splits import EarlierSplits
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.test_sets import TestSets
from selftrain.data.workers import cores
from selftrain.errors import QuarantineError, SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent


@dataclass(frozen=True)
class IngestResult:
    """What ingest made: the Manifest, and the files that are not in it.

    `quarantine` has the columns origin, reason, detail. `quarantine_share` is the part of the listed files that are
    unusable. Copies are in the table but not in the share, because they were only left out. `files_read` counts the
    files that had to be read this time, `misnamed` those that were used though their name announces another format. It
    is `grouped` if any image has a group.
    """

    manifest: Manifest
    quarantine: pa.Table
    quarantine_share: float
    held_out_copies: int
    unlabeled_copies: int
    ignored_files: int
    files_read: int
    held_out_groups: int = 0
    reserved: int = 0
    disputed: int = 0
    misnamed: int = 0
    grouped: bool = False
    earlier_test: str | None = None


def ingest(
    source: ImageSource,
    listing: Listing,
    store: ImageStore,
    *,
    settings: config.Ingest,
    splitting: config.Splitting,
    workers: int | None = None,
    shard_mb: int = 256,
    progress: Progress = silent,
) -> IngestResult:
    """Bring `store` up to date with `listing`, which `source` scanned, and make its Manifest.

    Only new and changed files are read: those whose path, size or time is not in the index. `workers` processes (None:
    one per core) write them into shards of at most `shard_mb`. An ingest that was killed continues after its last
    finished chunk. Images keep the splits that the store's present manifest gives them. The same files give the same
    manifest, whatever the number of processes.

    Raises SourceError for an empty listing and for a class with too few images. Raises QuarantineError if the share of
    unusable files is above `max_quarantine`.
    """
    if len(listing) == 0:
        raise SourceError("the source lists no image; check its folders or its table")
    limits = limits_of(settings)
    with store.locked() as lock:
        reading = Reading(source, store, limits, workers=workers or cores(), lock=lock)
        index, files_read = reading.update(listing, shard_bytes=shard_mb * 1_000_000, progress=progress)
        previous = Manifest.read(store.manifest_path) if store.manifest_path.exists() else None
        earlier, names = EarlierSplits.of(store, previous), source.class_names(listing)
        try:
            curated = curate(listing, index, store, names=names, limits=limits, splitting=splitting, earlier=earlier)
        except SourceError as error:
            raise _with_unread(error, listing, index, store) from error
        _write_quarantine(store, curated.quarantine)
        _refuse_too_many(curated, listing, store, settings.max_quarantine)
        earlier.remember(store, curated.manifest)
        tests = TestSets(store.root)
        tests.keep(previous, curated.manifest)
        curated.manifest.write(store.manifest_path)
        store.seal()
    return IngestResult(
        manifest=curated.manifest,
        quarantine=curated.quarantine,
        quarantine_share=curated.unusable / len(listing),
        held_out_copies=curated.held_out_copies,
        unlabeled_copies=curated.unlabeled_copies,
        ignored_files=listing.ignored,
        files_read=files_read,
        held_out_groups=curated.held_out_groups,
        reserved=curated.reserved,
        disputed=curated.disputed,
        misnamed=curated.misnamed,
        grouped=curated.grouped,
        earlier_test=tests.before(curated.manifest),
    )


def _write_quarantine(store: ImageStore, quarantine: pa.Table) -> None:
    from pyarrow import csv

    replace(store.quarantine_path, lambda to: csv.write_csv(quarantine, to))


def _with_unread(error: SourceError, listing: Listing, index: pa.Table, store: ImageStore) -> SourceError:
    """`error`, with the files that could not be read, which may be why; they are in the quarantine table then."""
    listed = pc.is_in(index["path"], value_set=listing.table["path"].combine_chunks())
    unread = index.filter(pc.and_(listed, pc.is_valid(index["reason"])))
    if unread.num_rows == 0:
        return error
    _write_quarantine(store, unread.select(["path", "reason", "detail"]).rename_columns(["origin", "reason", "detail"]))
    return SourceError(
        f"{error.message}. {unread.num_rows} of {len(listing)} source files cannot be used: {_counted(unread)}; see "
        f"{str(store.quarantine_path)!r}"
    )


def _counted(quarantine: pa.Table) -> str:
    reasons = quarantine["reason"].value_counts().to_pylist()
    return ", ".join(f"{one['counts']} {one['values']}" for one in sorted(reasons, key=lambda one: -one["counts"]))


def _refuse_too_many(curated: CuratedRows, listing: Listing, store: ImageStore, allowed: float) -> None:
    share = curated.unusable / len(listing)
    if share > allowed:
        raise QuarantineError(
            f"{curated.unusable} of {len(listing)} source files ({share:.1%}) cannot be used: "
            f"{_counted(curated.quarantine)}; "
            f"ingest.max_quarantine allows {allowed:.1%}. See {str(store.quarantine_path)!r}; "
            "repair or remove the files, or allow more"
        )
