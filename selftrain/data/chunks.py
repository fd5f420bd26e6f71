"""Chunks: a run of source files becomes one finished shard, its thumbnails and its rows of the index."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.data.decode import Examined, Reason, examine
from selftrain.data.phash import phash
from selftrain.data.sources import read_file
from selftrain.data.store import GRAY_SIDE, INDEX_SCHEMA, SHARD_SUFFIX, WRITE_OPTIONS, ImageStore, open_shard, replace
from selftrain.errors import ImageError, SelftrainError

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordWriter


@dataclass(frozen=True)
class Limits:
    """What an image may be; anything else is quarantined."""

    max_pixels: int
    min_side: int
    max_bytes: int


@dataclass(frozen=True)
class Chunk:
    """Source files that are read together: their paths, sizes in bytes and times, as listed."""

    paths: list[str]
    sizes: list[int]
    mtimes_ns: list[int]

    def key(self, limits: Limits) -> str:
        """Names the chunk: the same files, unchanged, read under the same limits."""
        read = [self.paths, self.sizes, self.mtimes_ns, asdict(limits)]
        return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:20]


def write_chunk_of_files(*, root: str, chunk: dict[str, list[Any]], limits: dict[str, int]) -> None:
    """`write_chunk` in a worker process, of files that it opens itself."""
    write_chunk(ImageStore(Path(root)), Chunk(**chunk), read=read_file, limits=Limits(**limits))


def write_chunk(store: ImageStore, chunk: Chunk, *, read: Callable[[str], bytes], limits: Limits) -> None:
    """Read a chunk once, in order, into one shard; leave its rows of the index at `store.pending/<key>.parquet`, last.

    No image raises: a bad one becomes a row with a reason. The shard is named after the images in it, so that the same
    files give the same names everywhere; a chunk killed half-way leaves only `.part` files.
    """
    key = chunk.key(limits)
    part = store.pending / f"{key}.{os.getpid()}.part"
    results = _Results()
    writer = _open_writer(part)
    try:
        for path in chunk.paths:
            results.add(_examine(path, read=read, limits=limits), write=writer.write)
    finally:
        writer.close()
    shard = _finish_shard(store, part, results)
    table = results.table(chunk, shard)
    replace(store.pending / f"{key}.parquet", lambda to: pq.write_table(table, to))


def _examine(path: str, *, read: Callable[[str], bytes], limits: Limits) -> tuple[bytes, Examined] | ImageError:
    try:
        data = read(path)
        if len(data) > limits.max_bytes:
            allowed = f"{limits.max_bytes / 1e6:.0f} MB are allowed"
            return ImageError(Reason.TOO_LARGE, f"{len(data) / 1e6:.0f} MB encoded, {allowed}")
        return data, examine(data, path, max_pixels=limits.max_pixels, min_side=limits.min_side)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(Reason.UNREADABLE, str(error))


@dataclass
class _Results:
    """What became of the files of one chunk so far; images with the same bytes share a record."""

    records: list[int | None] = field(default_factory=list)
    errors: list[ImageError | None] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=dict)
    examined: list[Examined] = field(default_factory=list)

    def add(self, result: tuple[bytes, Examined] | ImageError, *, write: Callable[[bytes], None]) -> None:
        if isinstance(result, ImageError):
            self.records.append(None)
            self.errors.append(result)
            return
        data, examined = result
        if examined.image_id not in self.stored:
            self.stored[examined.image_id] = len(self.examined)
            self.examined.append(examined)
            write(data)
        self.records.append(self.stored[examined.image_id])
        self.errors.append(None)

    def gray(self) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """Thumbnails (records, 32, 32)."""
        empty = np.empty((0, GRAY_SIDE, GRAY_SIDE), dtype=np.uint8)
        return np.concatenate([empty, *(one.gray32[None] for one in self.examined)])

    def table(self, chunk: Chunk, shard: str | None) -> pa.Table:
        """One row a file with INDEX_SCHEMA; what the image is stays null for a bad one."""
        record = pa.array(self.records, pa.int32())
        hashes = phash(self.gray()) if self.examined else np.empty(0, dtype=np.uint64)
        of_record = {
            "image_id": pa.array([one.image_id for one in self.examined], pa.string()),
            "shard": pa.array([shard] * len(self.examined), pa.string()),
            "index": pa.array(range(len(self.examined)), pa.int32()),
            "width": pa.array([one.width for one in self.examined], pa.int32()),
            "height": pa.array([one.height for one in self.examined], pa.int32()),
            "phash": pa.array(hashes, pa.uint64()),
        }
        columns = {
            "path": pa.array(chunk.paths, pa.string()),
            "size": pa.array(chunk.sizes, pa.int64()),
            "mtime_ns": pa.array(chunk.mtimes_ns, pa.int64()),
        }
        columns |= {name: column.take(record) for name, column in of_record.items()}
        columns["reason"] = pa.array([None if e is None else str(e.reason) for e in self.errors], pa.string())
        columns["detail"] = pa.array([None if e is None else e.message for e in self.errors], pa.string())
        return pa.table(columns, schema=INDEX_SCHEMA)


def _open_writer(path: Path) -> ArrayRecordWriter:
    from array_record.python.array_record_module import ArrayRecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    return ArrayRecordWriter(str(path), WRITE_OPTIONS)


def _finish_shard(store: ImageStore, part: Path, results: _Results) -> str | None:
    """Check the written records, name the shard by its content and move it in; None if the chunk holds no image."""
    if not results.examined:
        part.unlink()
        return None
    reader = open_shard(part)
    try:
        count = int(reader.num_records())
    finally:
        reader.close()
    if count != len(results.examined):
        raise SelftrainError(f"{part} holds {count} of {len(results.examined)} images after writing; is the disk full?")
    names = "".join(one.image_id for one in results.examined)
    shard = hashlib.sha256(names.encode()).hexdigest()[:20] + SHARD_SUFFIX
    store.shards.mkdir(parents=True, exist_ok=True)
    replace(store.gray_path(shard), lambda to: _save(to, results))
    os.replace(part, store.shard_path(shard))
    return shard


def _save(path: Path, results: _Results) -> None:
    with open(path, "wb") as file:
        np.save(file, results.gray())
