"""Places: where results may be written, checked before the work that makes them."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain.errors import ConfigError


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user gave; a leading ~ is their home folder, as in a shell."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises where there is no such user


def check_out(out: Path, *, workspace: Path | None = None) -> None:
    """Raise ConfigError unless a new folder can be made at `out`, or replace the one there; links are followed.

    The contents of a folder there do not matter. `workspace` is written to earlier and must not lie in it.
    """
    place = Path(os.path.realpath(out))
    check_folder(place, option="out")
    check_folder(place.parent, option="out")
    if place == Path.cwd() or os.path.ismount(place):
        kind = "the current folder" if place == Path.cwd() else "a mount point"
        raise ConfigError(f"out={str(out)!r} is {kind} and cannot be replaced; give a folder in it")
    if workspace is not None and Path(os.path.realpath(workspace)).is_relative_to(place):
        raise ConfigError(
            f"workspace={str(workspace)!r} lies in out={str(out)!r}, which is replaced as a whole at "
            f"the end; give a workspace outside it"
        )


def check_folder(folder: Path, *, option: str) -> None:
    """Raise ConfigError unless `folder`, which `option` names, can be written to, or made if it is missing."""
    there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not there.is_dir():
        raise ConfigError(f"cannot create {folder}: {there} is not a folder; choose another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there} is not writable; make it writable, or choose another {option}")
