"""File locks: one process at a time holds a file; the system frees it when the process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIES, _PAUSE_S = 10, 0.1


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of the file `path`; None if another process does.

    The file is made if it is missing, and its holder may remove it. Closing the descriptor frees the lock.
    Raises FileNotFoundError where the folder is missing.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if _is_at(path, lock):
            return lock
        os.close(lock)  # its holder removed it, after it was opened here


def wait_for_lock(path: Path) -> int | None:
    """Repeat `try_lock` for up to a second; a killed process frees its lock sooner.

    The folder of `path` is made, and made again if another process removes it.
    """
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = try_lock(path)
            if lock is not None:
                return lock
        time.sleep(_PAUSE_S)
    return None


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Wait for the lock of the file `path`, and hold it while the block runs. The folder is made; the file stays.

    Yields the lock's descriptor: a process that inherits it keeps the lock until it has ended too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def take_new(path: Path) -> int:
    """Create the file `path` and return a descriptor that holds its lock. It is locked before anyone can see it.

    The lock is held until the descriptor is closed, also in a process that inherits it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    lock = os.open(part, os.O_WRONLY | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    part.rename(path)
    return lock


def is_abandoned(path: Path) -> bool:
    """Whether the lock file `path` is there and nobody holds its lock."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def let_go(path: Path, lock: int) -> None:
    """Remove the file `path` and free its lock, the descriptor `lock`."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _is_at(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
