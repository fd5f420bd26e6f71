"""Writing: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Let `write` make a new file beside `path`, then rename it to `path`; the folder is made if it is missing.

    A reader sees the old file or the whole new one. The new one is removed if `write` raises. With `durable`, it is on
    the disk before the rename, so that a power cut cannot leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        if durable:
            _sync(part)
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # it must not hide why the writing failed
            part.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """`replace` with a file of `text`, in UTF-8."""
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
