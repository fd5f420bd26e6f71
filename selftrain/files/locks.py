"""File locks: a file that one process at a time holds; the system lets go of it when that process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

_TRIES, _PAUSE_S = 10, 0.1


def try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock of the file `path`, made if it is not there; None: another one holds it.

    It is held until the descriptor is closed. Whoever holds it may remove the file. Raises FileNotFoundError where
    there is no such folder.
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
    """As `try_lock`, for up to a second: a killed process that is not quite gone holds a lock for less.

    The folder of `path` is made, and made again where another process removes it meanwhile.
    """
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = try_lock(path)
            if lock is not None:
                return lock
        time.sleep(_PAUSE_S)
    return None


def let_go(path: Path, lock: int) -> None:
    """Remove the file `path`, whose lock the descriptor `lock` holds, and free it."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _is_at(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
