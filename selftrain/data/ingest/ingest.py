"""Ingest: every source file is read once, into shards and a Manifest; what cannot be used is quarantined."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain import config
from selftrain.data.images.decode import QuarantineReason
from selftrain.data.ingest.chunks import Limits, SourceChunk, cut_into_chunks, write_chunk
from selftrain.data.ingest.curate import CuratedRows, curate
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.earlier_splits import EarlierSplits
from selftrain.data.store.image_store import INDEX_SCHEMA, ImageStore
from selftrain.data.store.test_sets import TestSets
from selftrain.data.workers import cores, run_tasks
from selftrain.errors import QuarantineError, SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent

_MAX_FILE_BYTES = 256_000_000
_LIMITS_KEY = b"selftrain.limits"
_DEPENDS_ON_LIMITS = (QuarantineReason.TOO_LARGE, QuarantineReason.TOO_SMALL)


@dataclass(frozen=True)
class IngestResult:
    """What ingest made: the Manifest, and the files that are not in it.

    `quarantine` has the columns origin, reason, detail. `quarantine_share` is the part of the listed files that are
    unusable. Copies are in the table but not in the share, because they were only left out. `files_read` counts the
    files that had to be read this time.
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
    limits = _limits(settings)
    with store.locked() as lock:
        reading = _Reading(source, store, limits, workers=workers or cores(), lock=lock)
        index, files_read = reading.update(listing, shard_bytes=shard_mb * 1_000_000, progress=progress)
        previous = Manifest.read(store.manifest_path) if store.manifest_path.exists() else None
        earlier, names = EarlierSplits.of(store, previous), source.class_names(listing)
        curated = curate(listing, index, store, names=names, limits=limits, splitting=splitting, earlier=earlier)
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
        earlier_test=tests.before(curated.manifest),
    )


def _limits(settings: config.Ingest) -> Limits:
    max_pixels = int(settings.max_megapixels * 1e6)
    return Limits(max_pixels=max_pixels, min_side=settings.min_side, max_bytes=_MAX_FILE_BYTES)


@dataclass(frozen=True)
class _Reading:
    """Reads the files of a source into a store; the caller holds the store's `lock`."""

    source: ImageSource
    store: ImageStore
    limits: Limits
    workers: int
    lock: int

    def update(self, listing: Listing, *, shard_bytes: int, progress: Progress) -> tuple[pa.Table, int]:
        """Read the listed files that the index lacks; returns the complete index and the number of files read."""
        index = _read_index(self.store, self.limits)
        chunks = cut_into_chunks(_missing(listing, index), shard_bytes)
        finished = _finished_chunks(self.store)
        if not finished <= {chunk.key(self.limits) for chunk in chunks}:
            # An ingest of another listing finished these chunks. They go into the index, so no file is read twice.
            _adopt(self.store, index, sorted(finished), limits=None)
            index = _read_index(self.store, self.limits)
            chunks, finished = cut_into_chunks(_missing(listing, index), shard_bytes), set()
        to_read = [chunk for chunk in chunks if chunk.key(self.limits) not in finished]
        total = sum(len(chunk.paths) for chunk in chunks)
        done = total - sum(len(chunk.paths) for chunk in to_read)
        progress(done, total, "images read")
        for chunk in self._write(to_read):
            done += len(chunk.paths)
            progress(done, total, "images read")
        index = _adopt(self.store, index, [chunk.key(self.limits) for chunk in chunks], limits=self.limits)
        return index, sum(len(chunk.paths) for chunk in to_read)

    def _write(self, chunks: list[SourceChunk]) -> Iterator[SourceChunk]:
        """Write the chunks, in several processes if any process can open the files; yield each when it is done."""
        if not self.source.on_disk or len(chunks) < 2 or self.workers < 2:
            for chunk in chunks:
                write_chunk(self.store.root, chunk, read=self.source.read, limits=self.limits)
                yield chunk
            return
        shared = {"root": str(self.store.root), "limits": dataclasses.asdict(self.limits)}
        tasks = [{**shared, "chunk": dataclasses.asdict(chunk)} for chunk in chunks]
        function = "selftrain.data.ingest.chunks:write_chunk_of_files"
        for position in run_tasks(function, tasks, workers=self.workers, inherit=(self.lock,)):
            yield chunks[position]


def _read_index(store: ImageStore, limits: Limits) -> pa.Table:
    """The index without rows whose shard is gone or damaged, and without rows that another reading could change."""
    index = store.index()
    again = [QuarantineReason.UNREADABLE]
    if (index.schema.metadata or {}).get(_LIMITS_KEY) != _limits_text(limits):
        again += _DEPENDS_ON_LIMITS
    stays = pc.invert(pc.is_in(index["reason"], pa.array([str(reason) for reason in again])))
    return store.intact(index.filter(stays))


def _missing(listing: Listing, index: pa.Table) -> pa.Table:
    """Rows of the listing that the index does not have with the same size and time."""
    position = pc.index_in(listing.table["path"], value_set=index["path"].combine_chunks())
    same = [
        pc.equal(index[name].combine_chunks().take(position.combine_chunks()), listing.table[name].combine_chunks())
        for name in ("size", "mtime_ns")
    ]
    return listing.table.filter(pc.invert(pc.fill_null(pc.and_(*same), False)))


def _finished_chunks(store: ImageStore) -> set[str]:
    """Keys of the chunks that an unfinished ingest completed and that are still whole."""
    finished = set()
    for path in store.pending.glob("[!.]*.json"):
        rows = _rows(path)
        if store.intact(rows).num_rows == rows.num_rows:
            finished.add(path.stem)
    return finished


def _rows(path: Path) -> pa.Table:
    return pa.table(json.loads(path.read_text()), schema=INDEX_SCHEMA)


def _adopt(store: ImageStore, index: pa.Table, keys: list[str], *, limits: Limits | None) -> pa.Table:
    """Add the rows of finished chunks to the index, write it, and remove what is pending; returns the new index.

    `limits` are those that all of its files were read under; None if there were several.
    """
    parts = [_rows(store.pending / f"{key}.json") for key in keys]
    rows = pa.concat_tables([INDEX_SCHEMA.empty_table(), *parts])
    older = index.filter(pc.invert(pc.is_in(index["path"], rows["path"].combine_chunks())))
    merged = pa.concat_tables([older.replace_schema_metadata(None), rows]).sort_by("path").combine_chunks()
    merged = merged.replace_schema_metadata({_LIMITS_KEY: _limits_text(limits)} if limits else None)
    replace(store.index_path, lambda to: pq.write_table(merged, to))
    store.clear_unfinished()
    return merged


def _limits_text(limits: Limits) -> bytes:
    return json.dumps(dataclasses.asdict(limits), sort_keys=True).encode()


def _write_quarantine(store: ImageStore, quarantine: pa.Table) -> None:
    from pyarrow import csv

    replace(store.quarantine_path, lambda to: csv.write_csv(quarantine, to))


def _refuse_too_many(curated: CuratedRows, listing: Listing, store: ImageStore, allowed: float) -> None:
    share = curated.unusable / len(listing)
    if share > allowed:
        reasons = curated.quarantine["reason"].value_counts().to_pylist()
        counts = ", ".join(
            f"{one['counts']} {one['values']}" for one in sorted(reasons, key=lambda one: -one["counts"])
        )
        raise QuarantineError(
            f"{curated.unusable} of {len(listing)} source files ({share:.1%}) cannot be used: {counts}; "
            f"ingest.max_quarantine allows {allowed:.1%}. See {str(store.quarantine_path)!r}; "
            "repair or remove the files, or allow more"
        )
