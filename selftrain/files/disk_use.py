"""Disk use: the bytes that files take, links counted once."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REMOVED = ".removed-"


@dataclass(frozen=True)
class DiskUse:
    """Files, and the bytes that are free once all of them are removed."""

    files: int = 0
    size: int = 0

    def without(self, rest: DiskUse) -> DiskUse:
        """What this is more than `rest`."""
        return DiskUse(self.files - rest.files, self.size - rest.size)


def disk_use(paths: Iterable[Path]) -> DiskUse:
    """The files at and below `paths`. One that has a link elsewhere takes no bytes: removing these does not free it."""
    files, links, sizes, names = (
        0,
        Counter[tuple[int, int]](),
        dict[tuple[int, int], int](),
        dict[tuple[int, int], int](),
    )
    for path in _files(paths):
        with contextlib.suppress(FileNotFoundError):
            stat = path.lstat()
            key = (stat.st_dev, stat.st_ino)
            files += 1
            links[key] += 1
            sizes[key], names[key] = stat.st_size, stat.st_nlink
    return DiskUse(files, sum(size for key, size in sizes.items() if links[key] >= names[key]))


def remove_folder(folder: Path) -> None:
    """Remove `folder` with all that is in it. A reader sees all of it or nothing, also after a kill."""
    aside = folder.with_name(f"{REMOVED}{folder.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside)


def half_removed(folder: Path) -> list[Path]:
    """What a killed `remove_folder` left in `folder`."""
    return sorted(folder.glob(f"{REMOVED}*"))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            yield from (Path(root) / name for root, _, names in os.walk(path) for name in names)
        elif os.path.lexists(path):
            yield path
