"""The inbox: which of the listed files are taken in now, which wait, and why."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from selftrain import config
from selftrain.data.hash_position import hash_position
from selftrain.data.images.names import named_like_an_image
from selftrain.files.remote import FoundFiles, Identity, RemoteFile

Wait = Literal["uploading", "empty", "unsettled", "unmarked", "over_cap", "unreadable"]
Sightings = Mapping[Identity, float]
"""Files that wait -> since when they were seen as they are, in seconds since 1970."""

SIDECAR = ".json"
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart", ".download")


@dataclass(frozen=True)
class Sorting:
    """The files of one look. `ready` are oldest first. `known` counts those that were taken in before, `ignored`
    those that are not images.

    `sightings` is what the next look must know, `others` are the paths of files without an image's name.
    """

    ready: tuple[RemoteFile, ...]
    waiting: Mapping[Wait, int]
    known: int
    ignored: int
    sightings: Sightings
    others: frozenset[str]


def sort_files(
    found: FoundFiles, *, known: Set[Identity], seen: Sightings, now: float, settings: config.Inbox
) -> Sorting:
    """Sort the files of a listing made at `now` (seconds since 1970).

    `known` are the files that the intake holds, `seen` the sightings after the look before this one.
    """
    others = frozenset(file.path for file in found.files if not is_image_file(file.path, settings.marker))
    images = [file for file in found.files if file.path not in others]
    new = [file for file in images if file.identity not in known]
    sightings = {file.identity: min(seen.get(file.identity, now), now) for file in new}
    waits = {file: wait_of(file, sightings[file.identity], others=others, now=now, settings=settings) for file in new}
    counts: Counter[Wait] = Counter(wait for wait in waits.values() if wait is not None)
    unfinished = sum(path.endswith(_UNFINISHED) for path in others)
    if found.uploads + unfinished:
        counts["uploading"] = found.uploads + unfinished
    ready = sorted((file for file, wait in waits.items() if wait is None), key=lambda file: (file.mtime_ns, file.path))
    sidecars = sum(f"{file.path}{SIDECAR}" in others for file in images)
    return Sorting(
        ready=tuple(ready),
        waiting=counts,
        known=len(images) - len(new),
        ignored=len(others) - sidecars - unfinished,
        sightings=sightings,
        others=others,
    )


def wait_of(
    file: RemoteFile, since: float, *, others: Set[str], now: float, settings: config.Inbox
) -> Literal["empty", "unsettled", "unmarked"] | None:
    """Why `file`, seen as it is `since` (seconds since 1970), waits; None: it can be taken in."""
    if file.size <= 0:
        return "empty"
    if settings.marker is not None:
        return None if marker_of(file.path, settings.marker) in others else "unmarked"
    return None if is_settled(file, since, now=now, settle_s=settings.settle_s) else "unsettled"


def is_settled(file: RemoteFile, since: float, *, now: float, settle_s: float) -> bool:
    """Whether `file` has stayed as it is for `settle_s`: as two looks saw it, or as the listing itself says.

    The listing's word is the last time that anyone wrote to the content, not the file's own mtime: a copy that still
    grows may carry an old one. After a clock has jumped back, a file waits at most `settle_s` longer.

    >>> old, touched = 0, 95_000_000_000
    >>> is_settled(RemoteFile("a.jpg", 9, old, "", touched), 100.0, now=100.0, settle_s=60)
    False
    >>> is_settled(RemoteFile("a.jpg", 9, old, "", touched), 100.0, now=160.0, settle_s=60)
    True
    """
    if now - since >= settle_s:
        return True
    return file.changed_ns > 0 and now - file.changed_ns / 1e9 >= settle_s


def is_image_file(path: str, marker: str | None) -> bool:
    """Whether the file at `path` is an image by its name; a marker is none, with or without an extension."""
    name = path.rpartition("/")[2]
    if "." in name:
        return named_like_an_image(name)
    return not name.startswith("_") and (marker is None or marker_of(path, marker) != path)


def marker_of(path: str, pattern: str) -> str:
    """The path of the file that says that `path` is complete; relative patterns start in its folder.

    >>> marker_of("in/a.jpg", "{name}.done"), marker_of("in/a.jpg", "{folder}/_SUCCESS")
    ('in/a.jpg.done', 'in/_SUCCESS')
    """
    folder, name = posixpath.split(path)
    marker = pattern.format(name=name, stem=name.rpartition(".")[0] or name, folder=folder)
    return marker if pattern.startswith("{folder}") else posixpath.join(folder, marker)


def sample(
    files: Sequence[RemoteFile], confidence: Mapping[str, float], sampling: config.Sampling
) -> tuple[list[RemoteFile], list[RemoteFile]]:
    """The files that are kept, and those that are left out; `confidence` of the recorded answers, by path.

    A file is in the control slice by a hash of its path, so that the slice is random and always the same.
    """
    if sampling.rule == "all":
        return list(files), []
    kept = [
        file
        for file in files
        if confidence.get(file.path, 0.0) < sampling.below or in_control_slice(file.path, sampling)
    ]
    taken = {file.path for file in kept}
    return kept, [file for file in files if file.path not in taken]


def in_control_slice(path: str, sampling: config.Sampling) -> bool:
    """Whether the file at `path` is kept whatever the rule."""
    return hash_position(path.encode(), seed=sampling.seed) < sampling.control
