"""Decoded files: the cache of decoded images on disk, pruned to a budget by last use."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftrain.files.locks import try_lock


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A new file to write in the block; it is renamed to `path` at the end, or removed if the block raises.

    Meanwhile it is locked, so that `prune` can tell it from what a killed process left. `files.writing.replace` holds
    no lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        lock = try_lock(part)
        if lock is not None:
            break
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        os.close(lock)


def mark_used(path: Path) -> None:
    """Mark `path` as used now, for `prune`. Raises FileNotFoundError if it is missing."""
    with contextlib.suppress(PermissionError):  # another user's cache, read-only
        os.utime(path)


def prune(folder: Path, *, budget_mb: int) -> None:
    """Keep the most recently used decoded files in `folder`, up to `budget_mb` together; remove the others.

    The unfinished files of killed processes are removed too. A process that has mapped a removed file can read it
    until it ends.
    """
    for part in folder.glob(".*.part"):
        _remove_unless_written(part)
    left = budget_mb * 1_000_000
    for _, path, size in sorted(_decoded(folder), reverse=True):
        left -= size
        if left < 0:
            _remove(path)


def decoded_files(folder: Path) -> list[Path]:
    """All decoded files in `folder`, and what killed processes left of others."""
    return sorted([*folder.glob("*.npy"), *folder.glob(".*.part")])


def _decoded(folder: Path) -> Iterator[tuple[int, Path, int]]:
    """Time of last use (ns), path and size in bytes of each decoded file."""
    for path in folder.glob("*.npy"):
        with contextlib.suppress(FileNotFoundError):  # another run prunes too
            stat = path.stat()
            yield stat.st_mtime_ns, path, stat.st_size


def _remove_unless_written(part: Path) -> None:
    with contextlib.suppress(OSError):
        lock = try_lock(part)
        if lock is not None:
            part.unlink(missing_ok=True)
            os.close(lock)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # this process may not remove it; another run may
        path.unlink(missing_ok=True)
