"""Pixels: a manifest's images at one size, from memory, a memory-mapped cache, or the shards."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from selftrain.data.images.decode import MAX_PIXELS, decode
from selftrain.data.store import decoded_files
from selftrain.data.store.feature_files import FeatureFiles
from selftrain.data.store.shards import read_records
from selftrain.data.workers import cores, run_tasks
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.data.manifest import Manifest
    from selftrain.data.store.image_store import ImageStore

Images = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# Increase it when `decode` gives other pixels, so that older caches are not used.
_DECODING = 2
_CHUNK = 1024


class Pixels(Protocol):
    """The images of a manifest, in the order of its rows, as RGB uint8 0-255 of `size` pixels per side."""

    @property
    def size(self) -> int:
        """Pixels per side."""

    def __len__(self) -> int: ...

    def gather(self, rows: Int64s) -> Images:
        """uint8 (k, size, size, 3) of `rows` (k,), in that order, in new memory."""


@dataclass(frozen=True, eq=False)
class ArrayPixels:
    """Pixels in an array uint8 (n, size, size, 3), in memory or memory-mapped.

    >>> ArrayPixels(np.zeros((3, 8, 8, 3), np.uint8)).gather(np.array([2, 0])).shape
    (2, 8, 8, 3)
    """

    array: Images

    @property
    def size(self) -> int:
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def gather(self, rows: Int64s) -> Images:
        return np.ascontiguousarray(np.take(self.array, rows, axis=0))


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels that threads decode from the shards at each `gather`, for large data."""

    folder: Path  # of the shards
    shards: npt.NDArray[np.object_]  # (n,)
    records: Int64s  # (n,) record in its shard
    size: int
    workers: int
    bits: int | None = None  # of 16 that grey pictures fill

    def __len__(self) -> int:
        return len(self.records)

    def gather(self, rows: Int64s) -> Images:
        images = np.empty((len(rows), self.size, self.size, 3), dtype=np.uint8)
        with ThreadPoolExecutor(self.workers) as threads:
            parts = [part for part in np.array_split(np.arange(len(rows)), self.workers) if len(part)]
            list(threads.map(lambda part: self.fill(images, part, rows[part]), parts))
        return images

    def fill(self, images: Images, at: Int64s, rows: Int64s) -> None:
        """Write the images of `rows` (k,) to the positions `at` (k,) of `images`."""
        encoded = read_records(self.folder, self.shards[rows], self.records[rows])
        for position, data in zip(at, encoded, strict=True):
            images[position] = decode(data, self.size, max_pixels=_ANY, lenient=True, bits=self.bits)


@dataclass(frozen=True, eq=False)
class KeptPixels:
    """Pixels whose `features` may be kept on disk, under the ids (n,) of their `images`, and their `bits` of 16."""

    pixels: Pixels
    images: tuple[str, ...]
    features: FeatureFiles
    bits: int | None = None

    @property
    def size(self) -> int:
        return self.pixels.size

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, rows: Int64s) -> Images:
        return self.pixels.gather(rows)


_ANY = max(MAX_PIXELS, 1 << 40)  # ingest has checked the size


def decoded(
    manifest: Manifest,
    store: ImageStore,
    size: int,
    *,
    cache_dir: Path,
    budget_mb: int,
    workers: int | None = None,
    alone_up_to: int = 2048,
    progress: Progress = silent,
) -> Pixels:
    """The images of `manifest`, in its order, at `size` pixels per side.

    If all of them take at most `budget_mb`, they are decoded once into a file in `cache_dir` and memory-mapped. Any
    manifest of the same images uses the same file, which is marked as used now. `workers` processes decode (None: one
    per core); up to `alone_up_to` images, this process decodes alone. Above the budget, images are decoded from the
    shards on demand. Raises ManifestError for a shard that is missing.
    """
    processes = workers or cores()
    shards = np.asarray(manifest.table["shard"].cast("string").to_pylist(), dtype=object)
    records = manifest.table["index"].to_numpy().astype(np.int64)
    stored = StoredPixels(store.shards, shards, records, size, processes, manifest.bits)
    if len(manifest) * size * size * 3 > budget_mb * 1_000_000:
        return stored
    path = cache_dir / f"{_key(manifest, size)}.npy"
    while True:
        if not path.exists():
            alone = len(manifest) <= alone_up_to
            _build(path, stored, workers=1 if alone else processes, progress=progress)
        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
            decoded_files.mark_used(path)
            return ArrayPixels(np.load(path, mmap_mode="r"))


def _key(manifest: Manifest, size: int) -> str:
    """The name of the decoded images, by ids, size, bits and way of decoding; labels and splits do not count."""
    ids = hashlib.sha256("".join(manifest.table["image_id"].to_pylist()).encode())
    ids.update(f"{size}:{_DECODING}".encode())
    if manifest.bits is not None:
        ids.update(f":bits{manifest.bits}".encode())
    return f"{ids.hexdigest()[:24]}-{size}"


def _build(path: Path, stored: StoredPixels, *, workers: int, progress: Progress) -> None:
    """Decode everything, in the order of the shards, into the file `path`."""
    count = len(stored)
    order = np.lexsort((stored.records, stored.shards.astype(str)))
    chunks = [order[start : start + _CHUNK] for start in range(0, count, _CHUNK)]
    with decoded_files.written_whole(path) as part:
        shape = (count, stored.size, stored.size, 3)
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape).flush()
        progress(0, count, "images decoded")
        done = 0
        for chunk in _decode_chunks(chunks, part, stored, workers=workers):
            done += len(chunk)
            progress(done, count, "images decoded")


def _decode_chunks(chunks: list[Int64s], part: Path, stored: StoredPixels, *, workers: int) -> Iterator[Int64s]:
    """Decode chunks of rows into the array at `part`; yields each when it is done."""
    if workers == 1:
        array = np.load(part, mmap_mode="r+")
        for chunk in chunks:
            stored.fill(array, chunk, chunk)
            yield chunk
        return
    tasks = [
        {
            "part": str(part),
            "folder": str(stored.folder),
            "rows": chunk.tolist(),
            "shards": stored.shards[chunk].tolist(),
            "records": stored.records[chunk].tolist(),
            "bits": stored.bits,
        }
        for chunk in chunks
    ]
    for position in run_tasks("selftrain.data.store.pixels:decode_into", tasks, workers=workers):
        yield chunks[position]


def decode_into(
    *, part: str, folder: str, rows: list[int], shards: list[str], records: list[int], bits: int | None = None
) -> None:
    """Decode the images at (shards, records) into `rows` of the array file `part`."""
    array = np.load(part, mmap_mode="r+")
    names = np.asarray(shards, dtype=object)
    stored = StoredPixels(Path(folder), names, np.asarray(records), int(array.shape[1]), workers=1, bits=bits)
    stored.fill(array, np.asarray(rows), np.arange(len(rows)))
