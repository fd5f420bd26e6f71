"""Ingest: every source file is read once, into shards and a Manifest; what cannot be used is quarantined."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain import config
from selftrain.data.images.decode import QuarantineReason
from selftrain.data.ingest.chunks import Limits, SourceChunk, write_chunk
from selftrain.data.ingest.curate import CuratedRows, curate
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.rows import check_rows
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.image_store import INDEX_SCHEMA, ImageStore
from selftrain.data.workers import cores, run_tasks
from selftrain.errors import QuarantineError, SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent

# Shards grow with the dataset between these, so that a small one still spreads over the cores and a large one has few
# files. A file counts a little more than its bytes: an array source lists none.
_SMALLEST_SHARD_BYTES = 2_000_000
_SHARDS_WANTED = 64
_BYTES_A_FILE = 1_000
_MAX_FILE_BYTES = 256_000_000
_LIMITS_KEY = b"selftrain.limits"
_DEPENDS_ON_LIMITS = (QuarantineReason.TOO_LARGE, QuarantineReason.TOO_SMALL)


@dataclass(frozen=True)
class IngestResult:
    """What ingest made: the Manifest, and the files that are not in it.

    `quarantine` has the columns origin, reason, detail. `quarantine_share` is the part of the listed files that are
    unusable; copies that were only left out (an unlabelled copy of a labelled image, a near-copy of a held-out one)
    are in the table, but not in the share. `files_read` counts the files that had to be read this time.
    """

    manifest: Manifest
    quarantine: pa.Table
    quarantine_share: float
    held_out_copies: int
    unlabeled_copies: int
    ignored_files: int
    files_read: int


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
    """Bring `store` up to date with `listing`, and make its Manifest.

    Only files that are new or changed by path, size or time are read, by `workers` processes (None: one a core), into
    shards of at most `shard_mb`; killed and run again, it goes on after the last finished chunk. Splits of the manifest
    that is there are kept. The same files give the same manifest, whatever the number of processes. Raises SourceError
    for labels that do not fit, QuarantineError above `max_quarantine`.
    """
    if len(listing) == 0:
        raise SourceError("the source lists no image; check its folders or its table")
    check_rows(listing.table, row_name=lambda row: repr(listing.table["path"][row].as_py()))
    max_pixels = int(settings.max_megapixels * 1e6)
    limits = Limits(max_pixels=max_pixels, min_side=settings.min_side, max_bytes=_MAX_FILE_BYTES)
    shard_bytes, processes = shard_mb * 1_000_000, workers or cores()
    with store.locked() as lock:
        index, files_read = _up_to_date(
            source, listing, store, limits, lock, shard_bytes=shard_bytes, workers=processes, progress=progress
        )
        previous = Manifest.read(store.manifest_path) if store.manifest_path.exists() else None
        names = source.class_names(listing)
        curated = curate(listing, index, store, names=names, limits=limits, splitting=splitting, previous=previous)
        _write_quarantine(store, curated.quarantine)
        _refuse_too_many(curated, listing, store, settings.max_quarantine)
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
    )


def _up_to_date(
    source: ImageSource,
    listing: Listing,
    store: ImageStore,
    limits: Limits,
    lock: int,
    *,
    shard_bytes: int,
    workers: int,
    progress: Progress,
) -> tuple[pa.Table, int]:
    """The index with a row for every listed file, after reading those that it lacked, and their number."""
    index = _read_index(store, limits)
    chunks = _chunks(_missing(listing, index), shard_bytes)
    finished = _finished_chunks(store)
    if not finished <= {chunk.key(limits) for chunk in chunks}:
        # Left by an ingest of another listing: their files need no second reading, whatever is listed now.
        _adopt(store, index, sorted(finished), limits=None)
        index = _read_index(store, limits)
        chunks, finished = _chunks(_missing(listing, index), shard_bytes), set()
    to_read = [chunk for chunk in chunks if chunk.key(limits) not in finished]
    total = sum(len(chunk.paths) for chunk in chunks)
    done = total - sum(len(chunk.paths) for chunk in to_read)
    progress(done, total, "images read")
    for chunk in _write_chunks(to_read, source, store, limits, workers=workers, lock=lock):
        done += len(chunk.paths)
        progress(done, total, "images read")
    index = _adopt(store, index, [chunk.key(limits) for chunk in chunks], limits=limits)
    return index, sum(len(chunk.paths) for chunk in to_read)


def _write_chunks(
    chunks: list[SourceChunk], source: ImageSource, store: ImageStore, limits: Limits, *, workers: int, lock: int
) -> Iterator[SourceChunk]:
    """Write the chunks, over the cores where the files can be opened by any process; yields each when it is done."""
    if source.on_disk and len(chunks) > 1 and workers > 1:
        given = dataclasses.asdict(limits)
        tasks = [{"root": str(store.root), "chunk": dataclasses.asdict(one), "limits": given} for one in chunks]
        for position in run_tasks(
            "selftrain.data.ingest.chunks:write_chunk_of_files", tasks, workers=workers, inherit=(lock,)
        ):
            yield chunks[position]
        return
    for chunk in chunks:
        write_chunk(store.root, chunk, read=source.read, limits=limits)
        yield chunk


def _read_index(store: ImageStore, limits: Limits) -> pa.Table:
    """The index without rows whose shard is gone, and without those that could come out otherwise this time."""
    index = store.index()
    again = [QuarantineReason.UNREADABLE]
    if (index.schema.metadata or {}).get(_LIMITS_KEY) != _limits_text(limits):
        again += _DEPENDS_ON_LIMITS
    stays = pc.invert(pc.is_in(index["reason"], pa.array([str(reason) for reason in again])))
    return store.intact(index.filter(stays))


def _missing(listing: Listing, index: pa.Table) -> pa.Table:
    """Rows of the listing that the index does not have, with that size and time."""
    position = pc.index_in(listing.table["path"], value_set=index["path"].combine_chunks())
    same = [
        pc.equal(index[name].combine_chunks().take(position.combine_chunks()), listing.table[name].combine_chunks())
        for name in ("size", "mtime_ns")
    ]
    return listing.table.filter(pc.invert(pc.fill_null(pc.and_(*same), False)))


def _chunks(rows: pa.Table, shard_bytes: int) -> list[SourceChunk]:
    """Cut the rows, in order, into chunks of about equal bytes; a function of the rows alone."""
    sizes = np.maximum(rows["size"].to_numpy(), 0) + _BYTES_A_FILE
    ends = np.cumsum(sizes)
    target = min(max(int(ends[-1]) // _SHARDS_WANTED, _SMALLEST_SHARD_BYTES), shard_bytes) if len(ends) else 0
    chunks, start = [], 0
    while start < len(ends):
        before = int(ends[start] - sizes[start])
        stop = max(int(np.searchsorted(ends, before + target, side="right")), start + 1)
        part = rows.slice(start, stop - start)
        chunks.append(SourceChunk(*(part[name].to_pylist() for name in ("path", "size", "mtime_ns"))))
        start = stop
    return chunks


def _finished_chunks(store: ImageStore) -> set[str]:
    """Keys of the chunks that an unfinished ingest completed, and that are still whole."""
    finished = set()
    for path in store.pending.glob("[!.]*.json"):
        rows = _rows(path)
        if store.intact(rows).num_rows == rows.num_rows:
            finished.add(path.stem)
    return finished


def _rows(path: Path) -> pa.Table:
    return pa.table(json.loads(path.read_text()), schema=INDEX_SCHEMA)


def _adopt(store: ImageStore, index: pa.Table, keys: list[str], *, limits: Limits | None) -> pa.Table:
    """The index with the rows of finished chunks, written; what is pending is cleared away.

    `limits` under which all of it was read; None: various.
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
            "mend or remove the files, or allow more"
        )
