"""Draws: a data set shared into labelled, unlabelled and test images; the labels of the unlabelled ones stay apart."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from benchmarks import photos
from selftrain.config import DigitsSource
from selftrain.data.images.encode import encode_png
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing
from selftrain.data.sources.rows import checked_listing
from selftrain.data.sources.source import ImageSource, open_source

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIRST = 5_000  # images of CIFAR-10 whose labels may be used
FLOWERS_TEST = 0.2  # of each class, the same photos in every draw
FLOWERS_SEED = 2026  # of that choice
HALF = (0.4, 0.1)  # of a class without its test photos: trained on, and held out for choosing


@dataclass(frozen=True)
class Draw:
    """What a loop is given, and the `hidden` labels (path -> class name) of its pool: for counting, after the loop."""

    source: ImageSource
    hidden: Mapping[str, str]


@dataclass(frozen=True)
class ListedImages:
    """A source of images that `encoded` opens by their path; nothing of them is on the disk."""

    listing: Listing
    names: tuple[str, ...]
    encoded: Callable[[str], bytes]
    on_disk: bool = False

    def scan(self) -> Listing:
        """The listing."""
        return self.listing

    def read(self, path: str) -> bytes:
        """The encoded image."""
        return self.encoded(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return self.names


def cifar10(*, labeled: int = 5_000, unlabeled: int = 20_000, test: int = 10_000) -> Draw:
    """CIFAR-10's first `labeled` training images, the next `unlabeled` ones without labels, and the test images.

    Validation is not taken from it: ingest splits it off the labelled ones.
    """
    images, labels = photos.cifar10(labeled + unlabeled)
    test_images, test_labels = photos.cifar10(test, photos.CIFAR10_TEST)
    pictures = {f"train-{row:06d}.png": image for row, image in enumerate(images)}
    pictures |= {f"test-{row:06d}.png": image for row, image in enumerate(test_images)}
    classes = [CIFAR10_NAMES[label] for label in (*labels.tolist(), *test_labels.tolist())]
    splits = [None] * labeled + ["unlabeled"] * (len(images) - labeled) + ["test"] * len(test_images)
    return _draw(
        dict(zip(pictures, classes, strict=True)),
        dict(zip(pictures, splits, strict=True)),
        CIFAR10_NAMES,
        lambda path: encode_png(pictures[path]),
    )


def cifar10_few(seed: int, *, train: int, validation: int, unlabeled: int = 20_000, test: int = 10_000) -> Draw:
    """CIFAR-10 with so many labels a class to train on and to choose by, drawn by `seed` from the first 5,000 images.

    The pool is the next `unlabeled` images. What is left of the first 5,000 is not used.
    """
    images, labels = photos.cifar10(FIRST + unlabeled)
    test_images, test_labels = photos.cifar10(test, photos.CIFAR10_TEST)
    pictures = {f"train-{row:06d}.png": image for row, image in enumerate(images[FIRST:], start=FIRST)}
    classes = {name: CIFAR10_NAMES[label] for name, label in zip(pictures, labels[FIRST:].tolist(), strict=True)}
    splits: dict[str, str | None] = dict.fromkeys(pictures, "unlabeled")
    order = np.random.default_rng(seed).permutation(FIRST)
    for kind, name in enumerate(CIFAR10_NAMES):
        drawn = order[labels[order] == kind][: train + validation].tolist()
        for place, row in enumerate(drawn):
            path = f"train-{row:06d}.png"
            pictures[path], classes[path] = images[row], name
            splits[path] = "train" if place < train else "validation"
    for row, (image, label) in enumerate(zip(test_images, test_labels.tolist(), strict=True)):
        path = f"test-{row:06d}.png"
        pictures[path], classes[path], splits[path] = image, CIFAR10_NAMES[label], "test"
    return _draw(classes, splits, CIFAR10_NAMES, lambda path: encode_png(pictures[path]))


def flowers(seed: int, *, per_class: tuple[int, int] | None) -> Draw:
    """TensorFlow Flowers: (to train on, to choose by) so many labels `per_class`, drawn by `seed`; None: half of all.

    A fifth of each class is test, whatever the seed; what has no label is the pool.
    """
    packed = _flowers()
    classes = {name: name.split("/")[1] for name in sorted(packed.namelist()) if name.endswith(".jpg")}
    splits: dict[str, str | None] = {}
    for kind in sorted(set(classes.values())):
        names = [name for name, other in classes.items() if other == kind]
        tests = round(FLOWERS_TEST * len(names))
        order = np.random.default_rng(FLOWERS_SEED).permutation(len(names))
        rest = np.random.default_rng(seed).permutation(order[tests:])
        train, validation = per_class or (round(share * len(rest)) for share in HALF)
        splits |= {names[row]: "test" for row in order[:tests]}
        splits |= {names[row]: "train" for row in rest[:train]}
        splits |= {names[row]: "validation" for row in rest[train : train + validation]}
        splits |= {names[row]: "unlabeled" for row in rest[train + validation :]}
    return _draw(classes, splits, tuple(sorted(set(classes.values()))), packed.read)


def digits(settings: DigitsSource) -> Draw:
    """scikit-learn's digits as the digits run draws them."""
    from sklearn.datasets import load_digits

    source = open_source(settings)
    labels = load_digits().target.tolist()
    table = source.scan().table
    pool = [path for path, split in zip(*_columns(table, "path", "split"), strict=True) if split == "unlabeled"]
    rows = {path: int(path.removeprefix("digit-").removesuffix(".png")) for path in pool}
    return Draw(source, {path: str(labels[row]) for path, row in rows.items()})


def _columns(table: pa.Table, *names: str) -> list[list[str | None]]:
    return [table[name].to_pylist() for name in names]


def _draw(
    classes: Mapping[str, str],
    splits: Mapping[str, str | None],
    names: tuple[str, ...],
    encoded: Callable[[str], bytes],
) -> Draw:
    """The Draw of images with `classes` and `splits` (path -> name); a class is not listed where the split hides it."""
    hidden = {path: kind for path, kind in classes.items() if splits[path] == "unlabeled"}
    shown = [None if path in hidden else kind for path, kind in classes.items()]
    zeros = np.zeros(len(classes), np.int64)
    columns = [list(classes), shown, [splits[path] for path in classes], zeros, zeros]
    return Draw(ListedImages(checked_listing(pa.table(columns, schema=LISTING_SCHEMA)), names, encoded), hidden)


@lru_cache(maxsize=1)
def _flowers() -> zipfile.ZipFile:
    return zipfile.ZipFile(photos.archive(photos.FLOWERS))
