"""A data set of a workspace: its image store, and its pixels at one resolution."""

from __future__ import annotations

from pathlib import Path

from selftrain.config import Machine, Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.pixels import Pixels, decoded
from selftrain.files.workspace import Workspace
from selftrain.progress import Progress, silent


def workspace(place: Place) -> Workspace:
    """The workspace of `place`, made if it is not there."""
    return Workspace(Path(place.workspace)).ensure()


def store(place: Place) -> ImageStore:
    """The image store of `place`."""
    return ImageStore(workspace(place).dataset(place.dataset))


def checkpoints(place: Place, code: str) -> Path:
    """Folder of the trainings by the code with the digest `code`; other code does not continue them."""
    return workspace(place).checkpoints / code[:12]


def pixels(place: Place, manifest: Manifest, size: int, machine: Machine, *, progress: Progress = silent) -> Pixels:
    """The images of `manifest` as uint8 (n, size, size, 3), aligned with its rows.

    Decoded once, then memory-mapped, where they take at most `machine.decoded_mb`; else from the shards each time.
    """
    return decoded(
        manifest,
        store(place),
        size,
        cache_dir=workspace(place).decoded_cache,
        budget_mb=machine.decoded_mb,
        workers=machine.workers,
        progress=progress,
    )
