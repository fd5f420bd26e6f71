"""Chunks: consecutive source files become one finished shard, its thumbnails and its rows of the index."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selftrain.data.images.decode import ImageFacts, examine, misnaming
from selftrain.data.images.openers import image_bytes, refuse_bytes
from selftrain.data.images.phash import phash
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.store.shards import (
    GRAY_SIDE,
    PENDING,
    SHARD_SUFFIX,
    SHARDS,
    Gray,
    count_records,
    create_shard,
    gray_path,
)
from selftrain.errors import ImageError, SelftrainError
from selftrain.files.writing import replace

if TYPE_CHECKING:
    import pyarrow as pa

# Shards grow with the data set: a small one still spreads over the cores, and a large one has few files. Each source
# file counts a little more than its bytes, because an array source lists sizes of 0.
_SMALLEST_SHARD_BYTES = 2_000_000
_SHARDS_WANTED = 64
_BYTES_PER_FILE = 1_000


@dataclass(frozen=True)
class Limits:
    """The limits of a usable image; any other is quarantined."""

    max_pixels: int
    min_side: int
    max_bytes: int
    bits: int | None = None

    @property
    def said(self) -> dict[str, int]:
        """The limits by name; bits only where they are set, so that what older versions read keeps its names."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def mark(self) -> str:
        """What the keys of chunks begin with: their pixels mean something else under other bits."""
        return f"bits{self.bits}-" if self.bits is not None else ""


@dataclass(frozen=True)
class SourceChunk:
    """Source files that are read together: their paths, sizes in bytes and times, as listed."""

    paths: list[str]
    sizes: list[int]
    mtimes_ns: list[int]

    def key(self, limits: Limits) -> str:
        """The name of the chunk; the same files under the same limits have the same name."""
        read = [self.paths, self.sizes, self.mtimes_ns, limits.said]
        return limits.mark + hashlib.sha256(json.dumps(read).encode()).hexdigest()[:20]


def cut_into_chunks(rows: pa.Table, shard_bytes: int) -> list[SourceChunk]:
    """Cut `rows` of a listing, in order, into chunks of about equal bytes and at most `shard_bytes`.

    The chunks depend on `rows` and `shard_bytes` alone. A larger file is a chunk of its own.
    """
    sizes = np.maximum(rows["size"].to_numpy(), 0) + _BYTES_PER_FILE
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


def write_chunk_of_files(*, root: str, chunk: dict[str, list[Any]], limits: dict[str, int]) -> None:
    """`write_chunk` in a worker process, which opens the files itself."""
    write_chunk(Path(root), SourceChunk(**chunk), read=image_bytes, limits=Limits(**limits))


def write_chunk(root: Path, chunk: SourceChunk, *, read: Callable[[str], bytes], limits: Limits) -> None:
    """Read the files of a chunk once, in order, into one shard below `root`; write `pending/<key>.json` last.

    That file holds the chunk's rows of the index: without it, the chunk counts as unfinished. A bad image does not
    raise, but becomes a row with a reason. The shard is named after its images, so the same files give the same name
    everywhere. The rows are JSON, because pyarrow takes longer to import than a chunk takes to read.
    """
    key = chunk.key(limits)
    part = root / PENDING / f"{key}.{os.getpid()}.part"
    results = _Results()
    try:
        with closing(create_shard(part)) as writer:
            for path, size in zip(chunk.paths, chunk.sizes, strict=True):
                results.add(path, _examine(path, size, read=read, limits=limits), write=writer.write)
        columns = results.columns(chunk, _finish_shard(root / SHARDS, part, results))
    except Exception:
        part.unlink(missing_ok=True)  # on a full disk it would keep the disk full
        raise
    replace(root / PENDING / f"{key}.json", lambda to: to.write_text(json.dumps(columns)))


def _examine(
    path: str, size: int, *, read: Callable[[str], bytes], limits: Limits
) -> tuple[bytes, ImageFacts] | ImageError:
    try:
        refuse_bytes(size, limits.max_bytes)
        data = read(path)
        refuse_bytes(len(data), limits.max_bytes)
        return data, examine(data, path, max_pixels=limits.max_pixels, min_side=limits.min_side, bits=limits.bits)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(QuarantineReason.UNREADABLE, str(error))


@dataclass
class _Results:
    """The results for a chunk's files so far; images with the same bytes share a record."""

    records: list[int | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    details: list[str | None] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=dict)
    examined: list[ImageFacts] = field(default_factory=list)

    def add(self, path: str, result: tuple[bytes, ImageFacts] | ImageError, *, write: Callable[[bytes], None]) -> None:
        """A result; an image whose name announces another format has a detail without a reason."""
        if isinstance(result, ImageError):
            self.records.append(None)
            self.reasons.append(str(result.reason))
            self.details.append(result.message)
            return
        data, examined = result
        if examined.image_id not in self.stored:
            self.stored[examined.image_id] = len(self.examined)
            self.examined.append(examined)
            write(data)
        self.records.append(self.stored[examined.image_id])
        self.reasons.append(None)
        self.details.append(misnaming(data, path))

    def gray(self) -> Gray:
        """Thumbnails (records, 32, 32)."""
        empty = np.empty((0, GRAY_SIDE, GRAY_SIDE), dtype=np.uint8)
        return np.concatenate([empty, *(one.gray32[None] for one in self.examined)])

    def columns(self, chunk: SourceChunk, shard: str | None) -> dict[str, list[Any]]:
        """One row per file, with the columns of INDEX_SCHEMA; the facts of a bad image are null."""
        hashes = phash(self.gray()).tolist() if self.examined else []
        columns: dict[str, list[Any]] = {"path": chunk.paths, "size": chunk.sizes, "mtime_ns": chunk.mtimes_ns}
        columns["shard"] = [None if record is None else shard for record in self.records]
        columns["index"] = list(self.records)
        columns["phash"] = [None if record is None else hashes[record] for record in self.records]
        facts = [None if record is None else self.examined[record] for record in self.records]
        for name in ("image_id", "width", "height"):
            columns[name] = [None if one is None else getattr(one, name) for one in facts]
        columns["reason"], columns["detail"] = list(self.reasons), list(self.details)
        return columns


def _finish_shard(folder: Path, part: Path, results: _Results) -> str | None:
    """Check the number of records, then move the shard into `folder`, named by its content; None without images."""
    if not results.examined:
        part.unlink()
        return None
    count = count_records(part)
    if count != len(results.examined):
        raise SelftrainError(f"{part} holds {count} of {len(results.examined)} images after writing; is the disk full?")
    names = "".join(one.image_id for one in results.examined)
    shard = folder / (hashlib.sha256(names.encode()).hexdigest()[:20] + SHARD_SUFFIX)
    folder.mkdir(parents=True, exist_ok=True)
    replace(gray_path(shard), lambda to: _save(to, results.gray()))
    os.replace(part, shard)
    return shard.name


def _save(path: Path, array: Gray) -> None:
    with open(path, "wb") as file:
        np.save(file, array)
