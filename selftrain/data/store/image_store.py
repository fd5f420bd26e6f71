"""The image store: encoded images in immutable ArrayRecord shards, and the index of all source files."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain.data.store.shards import (
    PENDING,
    SHARDS,
    Gray,
    Int64s,
    ShardNames,
    is_whole,
    read_gray,
    read_records,
)
from selftrain.files.locks import locked
from selftrain.files.writing import replace_text

INDEX_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("image_id", pa.string()),
        ("shard", pa.string()),
        ("index", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.uint64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class ImageStore:
    """The folder of one data set: `shards/`, `index.parquet`, `manifest.parquet`, `quarantine.csv`, `intake.parquet`.

    DVC versions it as a whole. Files are replaced and never changed in place: DVC may have made them read-only links
    into its cache. What must not travel with a version (the store's id, its lock) lies beside the folder.
    """

    root: Path

    @property
    def shards(self) -> Path:
        return self.root / SHARDS

    @property
    def pending(self) -> Path:
        """Rows (JSON) of the chunks that an unfinished ingest has completed."""
        return self.root / PENDING

    @property
    def index_path(self) -> Path:
        return self.root / "index.parquet"

    @property
    def manifest_path(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def quarantine_path(self) -> Path:
        return self.root / "quarantine.csv"

    def index(self) -> pa.Table:
        """One row per source file that was ever read, as it was last read; empty before the first ingest.

        A damaged index counts as empty: the source still holds everything.
        """
        try:
            return pq.read_table(self.index_path)
        except (FileNotFoundError, pa.ArrowInvalid):
            return INDEX_SCHEMA.empty_table()

    def clear_unfinished(self) -> None:
        """Remove what killed writers left; call it once the index has every finished chunk."""
        shutil.rmtree(self.pending, ignore_errors=True)
        for folder in (self.root, self.shards):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def read(self, shard: ShardNames, index: Int64s) -> list[bytes]:
        """The encoded images at (shard, index), both of length n, in that order.

        Raises ManifestError for a shard that is missing or shorter than asked.
        """
        return read_records(self.shards, shard, index)

    def gray(self, shard: ShardNames, index: Int64s) -> Gray:
        """Grey thumbnails uint8 (n, 32, 32) of the images at (shard, index)."""
        return read_gray(self.shards, shard, index)

    def intact(self, index: pa.Table) -> pa.Table:
        """The rows of `index` whose shard is whole, and those of quarantined files."""
        named = index["shard"].drop_null()
        whole = [name for name in named.unique().to_pylist() if is_whole(self.shards / name)]
        there = pc.is_in(index["shard"], pa.array(whole, pa.string()))
        return index.filter(pc.or_(there, pc.is_null(index["shard"])))

    def id(self) -> str:
        """A random name of this store, which stays while its files stay; a cached ingest depends on it.

        It is kept beside the folder, with the sizes and digests of the files at the last `seal`. A store that was
        wiped, replaced, or taken back to an older version gets a new name and is ingested again.
        """
        record = self._read_record()
        if record is None or record.files != self._states(record.files):
            record = self._write_record(_Record(secrets.token_hex(8), {}))
        return record.id

    def seal(self) -> None:
        """Record that the store is complete as it is now; its id stays."""
        record = self._read_record()
        shards = (path.relative_to(self.root).as_posix() for path in sorted(self.shards.glob("*.*")))
        files = self._states([*shards, self.index_path.name, self.manifest_path.name, self.quarantine_path.name])
        self._write_record(_Record(record.id if record else secrets.token_hex(8), files))

    def _states(self, names: Iterable[str]) -> dict[str, str]:
        return {name: _state(self.root / name) for name in names}

    def _read_record(self) -> _Record | None:
        try:
            values = json.loads(self._beside("store.json").read_text())
            return _Record(str(values["id"]), dict(values["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_record(self, record: _Record) -> _Record:
        replace_text(self._beside("store.json"), json.dumps({"id": record.id, "files": record.files}, indent=1))
        return record

    def _beside(self, suffix: str) -> Path:
        return self.root.with_name(f"{self.root.name}.{suffix}")

    def locked(self) -> AbstractContextManager[int]:
        """Hold the store for writing; a second process waits until the first has finished or died.

        Yields the lock's file descriptor: worker processes that inherit it keep the lock until they too have ended.
        """
        return locked(self._beside("lock"))


@dataclass(frozen=True)
class _Record:
    id: str
    files: dict[str, str]


def _state(path: Path) -> str:
    """What identifies a file's content: a table's digest, or a (large, immutable) shard's size."""
    if not path.exists():
        return "missing"
    if path.suffix == ".parquet":
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return str(path.stat().st_size)
