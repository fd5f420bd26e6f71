"""Reading: listed files become shards and rows of a store's index, each file once, whenever the process dies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain import config
from selftrain.data.images.decode import examine
from selftrain.data.images.openers import MOST_BYTES
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.ingest.chunks import Limits, SourceChunk, cut_into_chunks, write_chunk
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.image_store import INDEX_SCHEMA, ImageStore
from selftrain.data.workers import run_tasks
from selftrain.errors import ImageError, SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent

_LIMITS_KEY = b"selftrain.limits"
_DEPENDS_ON_LIMITS = (QuarantineReason.TOO_LARGE, QuarantineReason.TOO_SMALL)
_BITS_KEY = b"selftrain.bits"
_READER_KEY = b"selftrain.reader"
_READER = b"2"  # raised when files can be read that were refused before: those are then read once more
_DEPENDS_ON_READER = (
    QuarantineReason.NOT_AN_IMAGE,
    QuarantineReason.ANIMATED,
    QuarantineReason.UNSUPPORTED_MODE,
    "misnamed",
)


def limits_of(settings: config.Ingest) -> Limits:
    """What an image may be, by the configuration and by what one process holds in memory."""
    max_pixels = int(settings.max_megapixels * 1e6)
    return Limits(max_pixels=max_pixels, min_side=settings.min_side, max_bytes=MOST_BYTES, bits=settings.bits)


@dataclass(frozen=True)
class Reading:
    """Reads the files of a source into a store; the caller holds the store's `lock`."""

    source: ImageSource
    store: ImageStore
    limits: Limits
    workers: int
    lock: int

    def update(self, listing: Listing, *, shard_bytes: int, progress: Progress) -> tuple[pa.Table, int]:
        """Read the listed files that the index lacks; returns the complete index and the number of files read."""
        index = usable_index(self.store, self.limits)
        chunks = cut_into_chunks(_missing(listing, index), shard_bytes)
        finished = _finished_chunks(self.store, self.limits)
        if not finished <= {chunk.key(self.limits) for chunk in chunks}:
            # An ingest of another listing finished these chunks. They go into the index, so no file is read twice.
            _adopt(self.store, index, sorted(finished), limits=None, bits=self.limits.bits)
            index = usable_index(self.store, self.limits)
            chunks, finished = cut_into_chunks(_missing(listing, index), shard_bytes), set()
        to_read = [chunk for chunk in chunks if chunk.key(self.limits) not in finished]
        total = sum(len(chunk.paths) for chunk in chunks)
        done = total - sum(len(chunk.paths) for chunk in to_read)
        progress(done, total, "images read")
        for chunk in self._write(to_read):
            done += len(chunk.paths)
            progress(done, total, "images read")
        index = _adopt(
            self.store, index, [chunk.key(self.limits) for chunk in chunks], limits=self.limits, bits=self.limits.bits
        )
        return index, sum(len(chunk.paths) for chunk in to_read)

    def _write(self, chunks: list[SourceChunk]) -> Iterator[SourceChunk]:
        """Write the chunks, in several processes if any process can open the files; yield each when it is done."""
        if not self.source.on_disk or len(chunks) < 2 or self.workers < 2:
            for chunk in chunks:
                write_chunk(self.store.root, chunk, read=self.source.read, limits=self.limits)
                yield chunk
            return
        shared = {"root": str(self.store.root), "limits": self.limits.said}
        tasks = [{**shared, "chunk": dataclasses.asdict(chunk)} for chunk in chunks]
        function = "selftrain.data.ingest.chunks:write_chunk_of_files"
        for position in run_tasks(function, tasks, workers=self.workers, inherit=(self.lock,)):
            yield chunks[position]


def usable_index(store: ImageStore, limits: Limits) -> pa.Table:
    """The index without rows whose shard is gone or damaged, and without rows that another reading could change.

    Where pictures of 16 bits were read under other bits, it is empty: they look different now.
    """
    index = store.index()
    if _has_other_bits(index, limits):
        return index.slice(0, 0)
    again: list[str] = [QuarantineReason.UNREADABLE, QuarantineReason.NO_DECODER]
    if (index.schema.metadata or {}).get(_READER_KEY) != _READER:
        again += _DEPENDS_ON_READER
    if (index.schema.metadata or {}).get(_LIMITS_KEY) != _limits_text(limits):
        again += _DEPENDS_ON_LIMITS
    stays = pc.invert(pc.is_in(index["reason"], pa.array([str(reason) for reason in again])))
    return store.intact(index.filter(stays))


def read_kept_again(store: ImageStore, names: pa.ChunkedArray, limits: Limits, *, lock: int) -> None:
    """Where pictures were read under other bits, read those called `names` again: from the shards, not their source.

    Their files may be gone. Raises SourceError, and changes nothing, where the new bits would lose one of them.
    """
    index = store.index()
    if not _has_other_bits(index, limits):
        return
    named = pc.and_(pc.is_in(index["path"], names.combine_chunks()), pc.is_valid(index["image_id"]))
    rows = store.intact(index.filter(named))
    if rows.num_rows == 0:
        return
    kept = _Kept(store, rows.select(["path", "size", "mtime_ns", "shard", "index"]))
    kept.refuse_lost(limits)
    Reading(kept, store, limits, workers=1, lock=lock).update(kept.scan(), shard_bytes=256_000_000, progress=silent)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Images in whole shards of a store, as a source: `rows` of its index."""

    store: ImageStore
    rows: pa.Table
    on_disk: bool = False

    def scan(self) -> Listing:
        nothing = pa.nulls(self.rows.num_rows, pa.string())
        columns = {name: self.rows[name] for name in ("path", "size", "mtime_ns")}
        return Listing.build(pa.table({**columns, "label": nothing, "split": nothing}))

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return ()

    def read(self, path: str) -> bytes:
        place = self._places[path]
        return self.store.read([place["shard"]], np.array([place["index"]], np.int64))[0]

    @cached_property
    def _places(self) -> dict[str, dict[str, Any]]:
        return {row["path"]: row for row in self.rows.to_pylist()}

    def refuse_lost(self, limits: Limits) -> None:
        """Raise SourceError where a picture cannot be used under `limits`."""
        lost: list[str] = []
        for path in self._places:
            try:
                examine(self.read(path), path, max_pixels=limits.max_pixels, min_side=limits.min_side, bits=limits.bits)
            except ImageError as error:
                lost.append(error.message)
        if lost:
            bits = "without ingest.bits" if limits.bits is None else f"with ingest.bits: {limits.bits}"
            raise SourceError(
                f"{len(lost)} images that were taken in from the inbox cannot be read {bits}, such as {lost[0]}. "
                "Nothing was changed; set ingest.bits as it was before"
            )


def _has_other_bits(index: pa.Table, limits: Limits) -> bool:
    return bool((index.schema.metadata or {}).get(_BITS_KEY, b"") != _bits_text(limits.bits))


def _missing(listing: Listing, index: pa.Table) -> pa.Table:
    """Rows of the listing that the index does not have with the same size and time."""
    position = pc.index_in(listing.table["path"], value_set=index["path"].combine_chunks())
    same = [
        pc.equal(index[name].combine_chunks().take(position.combine_chunks()), listing.table[name].combine_chunks())
        for name in ("size", "mtime_ns")
    ]
    return listing.table.filter(pc.invert(pc.fill_null(pc.and_(*same), False)))


def _finished_chunks(store: ImageStore, limits: Limits) -> set[str]:
    """Keys of the chunks that an unfinished ingest under the same bits completed and that are still whole."""
    finished = set()
    for path in store.pending.glob("[!.]*.json"):
        if path.stem.rpartition("-")[0] != limits.mark.removesuffix("-"):
            continue
        rows = _rows(path)
        if store.intact(rows).num_rows == rows.num_rows:
            finished.add(path.stem)
    return finished


def _rows(path: Path) -> pa.Table:
    return pa.table(json.loads(path.read_text()), schema=INDEX_SCHEMA)


def _adopt(store: ImageStore, index: pa.Table, keys: list[str], *, limits: Limits | None, bits: int | None) -> pa.Table:
    """Add the rows of finished chunks to the index, write it, and remove what is pending; returns the new index.

    `limits` are those that all of its files were read under; None if there were several, which all had `bits`.
    """
    parts = [_rows(store.pending / f"{key}.json") for key in keys]
    rows = pa.concat_tables([INDEX_SCHEMA.empty_table(), *parts])
    older = index.filter(pc.invert(pc.is_in(index["path"], rows["path"].combine_chunks())))
    merged = pa.concat_tables([older.replace_schema_metadata(None), rows]).sort_by("path").combine_chunks()
    known = {_LIMITS_KEY: _limits_text(limits), _READER_KEY: _READER} if limits else {}
    read_as = {_BITS_KEY: _bits_text(bits)} if bits is not None else {}
    merged = merged.replace_schema_metadata({**known, **read_as} or None)
    replace(store.index_path, lambda to: pq.write_table(merged, to))
    store.clear_unfinished()
    return merged


def _limits_text(limits: Limits) -> bytes:
    return json.dumps(limits.said, sort_keys=True).encode()


def _bits_text(bits: int | None) -> bytes:
    return b"" if bits is None else str(bits).encode()
