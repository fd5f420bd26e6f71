"""A full disk: recognised in whatever a library made of it, and told in one line that names the disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selftrain.errors import DiskFullError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# What SQLite, HDF5, ArrayRecord and others say; they raise errors of their own, without the number.
_PHRASES = ("no space left on device", "disk is full", "errno = 28", "quota exceeded")

# SQLite's words for any trouble with its files; a full disk is the likely one where little room is left.
_VAGUE, _LITTLE = "disk i/o error", 1_000_000


@contextmanager
def full_disk_told(*places: Path) -> Iterator[None]:
    """Turn an error of the block that a full disk has caused into DiskFullError; it writes to `places`, above all."""
    try:
        yield
    except Exception as error:
        told = full_disk(error, places)
        if told is None or told is error:
            raise
        raise told from error


def full_disk(error: BaseException, places: Sequence[Path]) -> DiskFullError | None:
    """The line for `error`, if a full disk caused it; else None.

    The disk is that of the file which the error names. Where it names none, it is the fullest of those that hold
    `places` and the folder for temporary files.
    """
    chain = list(_chain(error))
    known = next((each for each in chain if isinstance(each, DiskFullError)), None)
    vague = any(_VAGUE in str(each).lower() for each in chain)
    if known is not None or not (vague or any(map(_says_full, chain))):
        return known
    named = [Path(os.fsdecode(name)) for each in chain if isinstance(each, OSError) and (name := each.filename)]
    there = [_existing(place) for place in (*named[:1], *([] if named else [*places, Path(tempfile.gettempdir())]))]
    fullest = min(there, key=lambda place: shutil.disk_usage(place).free)
    use = shutil.disk_usage(fullest)
    if vague and use.free > _LITTLE:
        return None
    return DiskFullError(
        f"the disk of {fullest} is full: {use.free / 1e6:.1f} of {use.total / 1e6:.1f} MB are free. Make room on it: "
        "`selftrain clean --keep-runs 2` frees what no kept run needs. Then repeat the command: it continues"
    )


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _PHRASES)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and the errors that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _existing(place: Path) -> Path:
    """`place`, or the nearest folder above it that is there."""
    place = place.absolute()
    return next(each for each in (place, *place.parents) if each.exists())
