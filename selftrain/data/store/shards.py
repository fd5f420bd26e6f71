"""Shards: ArrayRecord files of encoded images, and their thumbnails. Worker processes import this, so it is small."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.errors import ManifestError

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

SHARDS, PENDING = "shards", "pending"  # folders of a store
SHARD_SUFFIX = ".arrayrecord"
GRAY_SIDE = 32
# Each record can be read by itself. Compression would not make encoded images smaller, and writing would take four
# times as long.
_WRITE_OPTIONS = "group_size:1,uncompressed"
_READ_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"

_REMEDY = "restore the dataset with `dvc pull`, or run ingest again"

Gray = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
ShardNames = Sequence[str] | npt.NDArray[np.object_]


def read_records(folder: Path, shard: ShardNames, index: Int64s) -> list[bytes]:
    """The records at (shard, index), both of length n, in that order; `shard` are file names in `folder`.

    Raises ManifestError for a shard that is missing or shorter than asked.
    """
    records: list[bytes] = [b""] * len(index)
    for name, rows in by_shard(shard):
        wanted = [int(i) for i in index[rows]]
        if not (folder / name).exists():
            raise ManifestError(f"shard {str(folder / name)!r} is missing; {_REMEDY}")
        with open_shard(folder / name) as reader:
            try:
                read = reader.read(wanted)
            except (RuntimeError, IndexError) as error:
                raise ManifestError(f"shard {str(folder / name)!r} is damaged ({error}); {_REMEDY}") from error
        for row, record in zip(rows, read, strict=True):
            records[row] = record
    return records


def read_gray(folder: Path, shard: ShardNames, index: Int64s) -> Gray:
    """Grey thumbnails uint8 (n, 32, 32) of the images at (shard, index)."""
    thumbnails = np.empty((len(index), GRAY_SIDE, GRAY_SIDE), dtype=np.uint8)
    for name, rows in by_shard(shard):
        thumbnails[rows] = np.load(gray_path(folder / name), mmap_mode="r")[index[rows]]
    return thumbnails


def gray_path(shard: Path) -> Path:
    """The file of the thumbnails of `shard`, beside it."""
    return shard.with_name(f"{shard.name.removesuffix(SHARD_SUFFIX)}.gray.npy")


def is_whole(shard: Path) -> bool:
    """Whether the shard and its thumbnails are there and agree."""
    gray = gray_path(shard)
    if not shard.exists() or not gray.exists():
        return False
    try:
        count = len(np.load(gray, mmap_mode="r"))
    except (OSError, ValueError):
        return False
    return count > 0 and count_records(shard) == count


def count_records(shard: Path) -> int:
    """Records in a shard; 0 if it was cut off."""
    with open_shard(shard) as reader:
        return int(reader.num_records()) if reader.ok() else 0


@contextmanager
def open_shard(path: Path) -> Iterator[ArrayRecordReader]:
    """A reader of random records. A truncated shard opens too, but is not `ok()`."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path), _READ_OPTIONS)
    try:
        yield reader
    finally:
        with contextlib.suppress(RuntimeError):  # `ok` and `read` have reported it already
            reader.close()


def create_shard(path: Path) -> ArrayRecordWriter:
    """A writer of records, which must be closed before the shard can be read."""
    from array_record.python.array_record_module import ArrayRecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    return ArrayRecordWriter(str(path), _WRITE_OPTIONS)


def by_shard(shard: ShardNames) -> list[tuple[str, Int64s]]:
    """Each shard's name, in order, and the positions in `shard` where it stands, ascending."""
    names, codes = np.unique(np.asarray(shard, dtype=np.str_), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(1, len(names)))
    return [(str(name), rows) for name, rows in zip(names, np.split(order, edges), strict=True) if len(rows)]
