"""An opened data set: its image store, its checkpoints, and its pixels at a chosen size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Machine, Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.feature_files import FeatureFiles
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.pixels import KeptPixels, Pixels, decoded
from selftrain.data.store.test_sets import TestSets
from selftrain.files.workspace import Workspace
from selftrain.progress import Progress, silent


@dataclass(frozen=True)
class Dataset:
    """The data set `name` of a workspace, and how this machine reads it."""

    workspace: Workspace
    name: str
    machine: Machine

    @property
    def store(self) -> ImageStore:
        """The images, as they were encoded."""
        return ImageStore(self.workspace.dataset(self.name))

    @property
    def tests(self) -> TestSets:
        """The earlier versions of its test set."""
        return TestSets(self.store.root)

    def checkpoints(self, code: str) -> Path:
        """Folder of the checkpoints of trainings by code with this digest; other code does not continue them."""
        return self.workspace.checkpoints / code[:12]

    def pixels(self, manifest: Manifest, size: int, *, progress: Progress = silent) -> Pixels:
        """The images of `manifest` as uint8 (n, size, size, 3), aligned with its rows.

        If they take at most `machine.decoded_mb`, they are decoded once and memory-mapped. Otherwise they are read from
        the shards each time. What frozen networks compute for them is kept, up to `machine.features_mb`.
        """
        pixels = decoded(
            manifest,
            self.store,
            size,
            cache_dir=self.workspace.decoded_cache,
            budget_mb=self.machine.decoded_mb,
            workers=self.machine.workers,
            progress=progress,
        )
        features = FeatureFiles(self.workspace.features_cache, self.machine.features_mb)
        return KeptPixels(pixels, tuple(manifest.image_ids()), features, manifest.bits)


def dataset_at(place: Place, machine: Machine | None = None) -> Dataset:
    """The data set at `place`, to look at: nothing is made on the disk; `machine` None: the defaults."""
    return Dataset(Workspace(Path(place.workspace)), place.dataset, machine or Machine())


def open_dataset(place: Place, machine: Machine | None = None) -> Dataset:
    """The data set at `place`, whose workspace is made if it is missing; `machine` None: the defaults."""
    dataset = dataset_at(place, machine)
    dataset.workspace.ensure()
    return dataset
