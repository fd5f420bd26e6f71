"""Array sources: scikit-learn's digits and the data sets of keras.datasets, encoded as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain import config
from selftrain.data.images.encode import encode_png
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing
from selftrain.data.sources.rows import checked_listing
from selftrain.errors import SourceError

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_NAMES = {
    "mnist": "0 1 2 3 4 5 6 7 8 9",
    "fashion_mnist": "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle_boot",
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
        "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
        "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
}


@dataclass(frozen=True)
class DigitsImages:
    """scikit-learn's 1,797 scanned digits, 8x8 grey; the seed determines all four splits."""

    settings: config.DigitsSource
    on_disk: bool = False

    def scan(self) -> Listing:
        _, labels = _digits()
        sizes = [self.settings.labeled, self.settings.validation, self.settings.test]
        wanted = sum(sizes)
        if wanted > len(labels):
            raise SourceError(
                f"source: labeled + validation + test is {wanted}, but there are {len(labels)} digits; ask for fewer"
            )
        split = np.full(len(labels), "unlabeled", dtype=object)
        order = stratified_order(labels, seed=self.settings.seed)
        ends = np.cumsum(sizes)
        for name, rows in zip(("train", "validation", "test"), np.split(order, ends)[:3], strict=True):
            split[rows] = name
        label = [None if part == "unlabeled" else str(digit) for part, digit in zip(split, labels, strict=True)]
        return _listing([f"digit-{row:04d}.png" for row in range(len(labels))], label, split.tolist())

    def read(self, path: str) -> bytes:
        pictures, _ = _digits()
        return encode_png(pictures[_row(path, prefix="digit-", count=len(pictures))])

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return tuple("0123456789")


@dataclass(frozen=True)
class KerasImages:
    """A data set of keras.datasets; the seed draws its labelled training images, stratified by class."""

    settings: config.KerasDatasetSource
    on_disk: bool = False

    def scan(self) -> Listing:
        (_, train_labels), (_, test_labels) = _keras_dataset(self.settings.name)
        wanted, pool = self.settings.labeled, self.settings.unlabeled
        if wanted > len(train_labels):
            raise SourceError(
                f"source.labeled is {wanted}, but {self.settings.name} has {len(train_labels)} training images; "
                "ask for fewer"
            )
        order = stratified_order(train_labels, seed=self.settings.seed)
        end = len(order) if pool is None else wanted + pool
        labeled, unlabeled = np.sort(order[:wanted]), np.sort(order[wanted:end])
        names = np.array(_NAMES[self.settings.name].split(), dtype=object)
        paths = [f"train-{row:06d}.png" for row in (*labeled, *unlabeled)]
        paths += [f"test-{row:06d}.png" for row in range(len(test_labels))]
        label = [*names[train_labels[labeled]], *[None] * len(unlabeled), *names[test_labels]]
        split = [*[None] * len(labeled), *["unlabeled"] * len(unlabeled), *["test"] * len(test_labels)]
        return _listing(paths, label, split)

    def read(self, path: str) -> bytes:
        (train, _), (test, _) = _keras_dataset(self.settings.name)
        part, pictures = ("train-", train) if path.startswith("train-") else ("test-", test)
        return encode_png(pictures[_row(path, prefix=part, count=len(pictures))])

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return tuple(_NAMES[self.settings.name].split())


def stratified_order(labels: Labels, *, seed: int) -> Labels:
    """A random order of the rows of `labels` (n,) in which the first k rows hold the classes in proportion, for any k.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> sorted(labels[stratified_order(labels, seed=3)[:4]].tolist())
    [0, 0, 1, 1]
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, sizes = np.unique(labels, return_counts=True)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    position = (np.arange(len(labels)) - starts + 0.5) / np.repeat(sizes, sizes)
    return np.asarray(by_class[np.lexsort((rng.permutation(len(labels)), position))], dtype=np.int64)


@lru_cache(maxsize=1)
def _digits() -> tuple[Pictures, Labels]:
    """Pictures (1797, 8, 8), scaled from the scans' 0-16 to 0-255, and labels (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


@lru_cache(maxsize=1)
def _keras_dataset(name: str) -> tuple[tuple[Pictures, Labels], tuple[Pictures, Labels]]:
    """Training and test pictures (n, h, w[, 3]) and labels (n,), downloaded once by Keras itself."""
    import keras

    try:
        parts = getattr(keras.datasets, name).load_data()
    except Exception as error:
        raise SourceError(
            f"keras.datasets.{name} cannot be loaded ({error}); it is downloaded on first use: check the network, "
            "or put its files where Keras looks (KERAS_HOME, by default ~/.keras)"
        ) from error
    (train, train_labels), (test, test_labels) = parts
    return (train, train_labels.ravel().astype(np.int64)), (test, test_labels.ravel().astype(np.int64))


def _row(path: str, *, prefix: str, count: int) -> int:
    digits = path.removeprefix(prefix).removesuffix(".png")
    if not digits.isdecimal() or int(digits) >= count:
        raise FileNotFoundError(f"{path!r} is not one of the {count} images {prefix}*.png")
    return int(digits)


def _listing(paths: list[str], label: Sequence[str | None], split: Sequence[str | None]) -> Listing:
    """Array sources never change, so every row has size and time 0."""
    zeros = np.zeros(len(paths), dtype=np.int64)
    return checked_listing(pa.table([paths, label, split, zeros, zeros], schema=LISTING_SCHEMA))
