"""File locks: a file that one process at a time holds; the system lets go of it when that process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


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


def _is_at(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
