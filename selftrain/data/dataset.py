"""A data set of a workspace: its image store, and its pixels at one resolution."""

from __future__ import annotations

from pathlib import Path

from selftrain.config import Place
from selftrain.data.manifest import Manifest
from selftrain.data.pixels import Pixels, decoded
from selftrain.data.store import ImageStore
from selftrain.progress import Progress, silent
from selftrain.workspace import Workspace


def workspace(place: Place) -> Workspace:
    """The workspace of `place`, made if it is not there."""
    return Workspace(Path(place.workspace)).ensure()


def store(place: Place) -> ImageStore:
    """The image store of `place`."""
    return ImageStore(workspace(place).dataset(place.dataset))


def pixels(place: Place, manifest: Manifest, size: int, *, progress: Progress = silent) -> Pixels:
    """The images of `manifest` as uint8 (n, size, size, 3), aligned with its rows; decoded once, then memory-mapped."""
    cache = workspace(place).decoded_cache
    return decoded(manifest, store(place), size, cache_dir=cache, budget_mb=place.decoded_mb, progress=progress)
