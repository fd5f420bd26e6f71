"""Sources: where a user's images, labels and splits come from; they are never written to."""

from __future__ import annotations

import os
from typing import Protocol, assert_never

from selftrain import config
from selftrain.data.sources.folders import FolderImages
from selftrain.data.sources.listing import Listing


class ImageSource(Protocol):
    """What ingest needs from a source. `scan` is cheap: it reads no image."""

    @property
    def on_disk(self) -> bool:
        """Whether any process can open a path of the listing; if not, only `read` can."""

    def scan(self) -> Listing:
        """Everything the source holds now. Raises SourceError where labels, images and splits do not fit together."""

    def read(self, path: str) -> bytes:
        """The encoded image at `path`, which the listing names. Raises OSError."""

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""


def open_source(settings: config.Source) -> ImageSource:
    """The ImageSource that `settings` describe; nothing is read yet."""
    from selftrain.data.sources.arrays import DigitsImages, KerasImages
    from selftrain.data.sources.coco import CocoImages
    from selftrain.data.sources.places import PlacesImages, beyond_folders

    match settings:
        case config.DigitsSource():
            return DigitsImages(settings)
        case config.FolderSource():
            return PlacesImages(settings) if beyond_folders(settings) else FolderImages(settings)
        case config.TableSource():
            return _of_table(settings)
        case config.KerasDatasetSource():
            return KerasImages(settings)
        case config.CocoSource():
            return CocoImages(settings)
        case _:
            assert_never(settings)


def _of_table(settings: config.TableSource) -> ImageSource:
    """The images that a list names, or that a Parquet table holds itself."""
    from selftrain.data.places.parquet import holds_images
    from selftrain.data.places.place import INSIDE
    from selftrain.data.sources.places import PlacesImages
    from selftrain.data.sources.tables import TableImages

    if not holds_images(os.path.expanduser(settings.path)):
        return TableImages(settings)
    label = settings.columns.get("label")
    labeled = f"{settings.path}{INSIDE}{label}" if label else settings.path
    return PlacesImages(config.FolderSource(labeled=labeled, no_label=settings.no_label))
