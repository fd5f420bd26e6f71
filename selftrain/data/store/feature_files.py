"""Feature files: what frozen networks computed for images, kept on disk by network and by image."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selftrain.files.locks import locked, try_lock

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_ENTRY = np.dtype([("image", "V16"), ("checksum", "<u4")])  # of an index: whose features a row is, and its CRC-32
_FLOAT = np.dtype("<f4")
_INDEX, _ROWS, _LOCK = ".index", ".rows", ".lock"


@dataclass(frozen=True)
class FeatureFiles:
    """The features in `folder`, at most `budget_mb` together.

    A `key` names a network and a view of the image. For each key there is a file of rows, which is only appended to,
    and an index beside it. A killed process leaves at most a part of its last batch, which the next one cuts off. Any
    number of processes read and write at once.
    """

    folder: Path
    budget_mb: int

    def read(self, key: str, width: int, images: Sequence[str]) -> tuple[Floats, Bools]:
        """The features (n, `width`) of `images`, by their ids, and which of them (n,) are kept.

        A row that is not kept, or that does not have its checksum, is 0.
        """
        values, found = np.zeros((len(images), width), _FLOAT), np.zeros(len(images), bool)
        index = self._index(key, width)
        if not len(index):
            return values, found
        with contextlib.suppress(OSError, ValueError):  # another process has removed it
            rows = np.memmap(self._path(key, width, _ROWS), _FLOAT, "r", shape=(len(index), width))
            at = {image: row for row, image in enumerate(index["image"].tolist())}
            for place, name in enumerate(map(_name, images)):
                row = at.get(name)
                if row is not None and zlib.crc32(rows[row].tobytes()) == index["checksum"][row]:
                    values[place], found[place] = rows[row], True
            with contextlib.suppress(OSError):
                os.utime(self._path(key, width, _INDEX))
        return values, found

    def keep(self, key: str, width: int, images: Sequence[str], features: Floats) -> bool:
        """Append the `features` (n, `width`) of `images`, unless they are kept already; False if the disk refuses."""
        try:
            with locked(self._path(key, width, _LOCK)):
                known = set(self._index(key, width)["image"].tolist())
                names = list(map(_name, images))
                new = [row for row, name in enumerate(names) if name not in known]
                self._append(key, width, [names[row] for row in new], np.asarray(features, _FLOAT)[new])
        except OSError:
            return False
        return True

    def has_room(self, keys: Sequence[str], width: int, images: int) -> bool:
        """Make room for `images` more images of `width` under each of `keys`; False if they exceed the budget.

        The features of other keys go first, those used longest ago before others.
        """
        own = {self._path(key, width, _INDEX) for key in keys}
        needed = len(keys) * images * (width * _FLOAT.itemsize + _ENTRY.itemsize) + sum(map(_size, own))
        budget = self.budget_mb * 1_000_000
        if needed > budget:
            return False
        prune(self.folder, budget_bytes=budget - needed, spared=own)
        return True

    def _append(self, key: str, width: int, names: list[bytes], features: Floats) -> None:
        """Write rows and then their entries, behind what both files have in common; the lock is held."""
        kept = len(self._index(key, width))
        entries = np.zeros(len(names), _ENTRY)
        entries["image"] = np.array(names, dtype="V16")
        entries["checksum"] = [zlib.crc32(row.tobytes()) for row in features]
        for suffix, size, data in (
            (_ROWS, width * _FLOAT.itemsize, features.tobytes()),
            (_INDEX, _ENTRY.itemsize, entries.tobytes()),
        ):
            path = self._path(key, width, suffix)
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.truncate(kept * size)
                file.seek(0, os.SEEK_END)
                file.write(data)

    def _index(self, key: str, width: int) -> NDArray[np.void]:
        """The entries of all rows that are whole."""
        try:
            data = self._path(key, width, _INDEX).read_bytes()
            rows = self._path(key, width, _ROWS).stat().st_size // (width * _FLOAT.itemsize)
        except OSError:
            return np.zeros(0, _ENTRY)
        return np.frombuffer(data[: len(data) // _ENTRY.itemsize * _ENTRY.itemsize], _ENTRY)[:rows]

    def _path(self, key: str, width: int, suffix: str) -> Path:
        return self.folder / f"{key}-{width}{suffix}"


def prune(folder: Path, *, budget_bytes: int, spared: Iterable[Path] = ()) -> None:
    """Keep the features used last, up to `budget_bytes` together; remove the others, apart from the `spared` indexes.

    What a process is writing just now stays. A process that has mapped removed features can read them until it ends.
    """
    indexes = [path for path in _with_time(folder) if path[1] not in set(spared)]
    for _, index in sorted(indexes, reverse=True):
        budget_bytes -= _size(index)
        if budget_bytes < 0:
            _remove(index)


def feature_files(folder: Path) -> list[Path]:
    """All files of features in `folder`; the empty files of their locks do not count."""
    return sorted(path for suffix in (_INDEX, _ROWS) for path in folder.glob(f"*{suffix}"))


def _with_time(folder: Path) -> Iterator[tuple[int, Path]]:
    """When each index was last used (ns), and its path. Rows without an index are of a process killed at its start."""
    for rows in folder.glob(f"*{_ROWS}"):
        with contextlib.suppress(FileNotFoundError):
            index = rows.with_suffix(_INDEX)
            yield (index if index.exists() else rows).stat().st_mtime_ns, index


def _size(index: Path) -> int:
    """The bytes of an index and its rows."""
    found = 0
    for path in (index, index.with_suffix(_ROWS)):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def _remove(index: Path) -> None:
    with contextlib.suppress(OSError):
        lock = try_lock(index.with_suffix(_LOCK))
        if lock is None:
            return  # a process appends to it
        try:
            for each in (index, index.with_suffix(_ROWS)):  # another process may wait for the lock's file
                each.unlink(missing_ok=True)
        finally:
            os.close(lock)


def _name(image: str) -> bytes:
    return blake2b(image.encode(), digest_size=16).digest()
