"""Places: where results may be written, checked before the work that makes them."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain.errors import ConfigError


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user gave; a leading ~ is their home folder, as in a shell."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises where there is no such user


def check_out(out: Path, *, workspace: Path | None = None) -> None:
    """Raise ConfigError unless a new folder can be put at `out`, or in place of the one there; links are followed.

    What the folder there holds is not looked at. `workspace` is written to before, and may not lie in it.
    """
    place = Path(os.path.realpath(out))
    check_folder(place, option="out")
    check_folder(place.parent, option="out")
    if place == Path.cwd() or os.path.ismount(place):
        kind = "the folder this runs in" if place == Path.cwd() else "a mount point"
        raise ConfigError(f"out={str(out)!r} is {kind} and cannot be made anew; give a folder in it")
    if workspace is not None and Path(os.path.realpath(workspace)).is_relative_to(place):
        raise ConfigError(
            f"workspace={str(workspace)!r} lies in out={str(out)!r}, which is made whole at the end; "
            f"give a workspace outside it"
        )


def check_folder(folder: Path, *, option: str) -> None:
    """Raise ConfigError unless `folder` can be written to, or be made where it is not there; `option` gave it."""
    there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not there.is_dir():
        raise ConfigError(f"{folder} cannot be a folder: {there} is none; give another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there} cannot be written to; make it writable, or give another {option}")
