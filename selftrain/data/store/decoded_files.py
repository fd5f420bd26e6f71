"""Decoded files: the cache of decoded images on disk, its least lately used files removed to fit a budget."""

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
    """A new file, to be written while the block runs and then renamed to `path`; removed when the block raises.

    It is locked meanwhile: `prune` removes what a killed process left.
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
    """Note that `path` is used now, for `prune`. Raises FileNotFoundError when it is not there."""
    with contextlib.suppress(PermissionError):  # another user's cache, read alone
        os.utime(path)


def prune(folder: Path, *, budget_mb: int) -> None:
    """Keeps of the decoded files in `folder` those used last that take `budget_mb` together, and removes the others.

    With them goes what killed processes were writing. A process that has a removed file mapped keeps it until it ends.
    """
    for part in folder.glob(".*.part"):
        _remove_unless_written(part)
    left = budget_mb * 1_000_000
    for _, path, size in sorted(_decoded(folder), reverse=True):
        left -= size
        if left < 0:
            _remove(path)


def _decoded(folder: Path) -> Iterator[tuple[int, Path, int]]:
    """When it was used last (ns), its path and its bytes, of each decoded file."""
    for path in folder.glob("*.npy"):
        with contextlib.suppress(FileNotFoundError):  # another run is at it too
            stat = path.stat()
            yield stat.st_mtime_ns, path, stat.st_size


def _remove_unless_written(part: Path) -> None:
    with contextlib.suppress(OSError):
        lock = try_lock(part)
        if lock is not None:
            part.unlink(missing_ok=True)
            os.close(lock)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # not ours to remove: the next run may
        path.unlink(missing_ok=True)
