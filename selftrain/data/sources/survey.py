"""Survey: what a user's folders of images hold, found from file names and a sample of headers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import BaseModel, ConfigDict

from selftrain.config import FolderSource, TableSource
from selftrain.data.images.decode import decode
from selftrain.data.images.formats import sniff
from selftrain.data.sources.source import open_source
from selftrain.errors import ImageError, SourceError

SAMPLED = 256  # files whose header is read
SMALL_SIDE = 64  # pixels; smaller pictures are decoded to find colour
ALPHABET = 10  # classes
DECODED = 48  # files that are decoded to tell writing from photos
SHADE, PAPER = 16, 0.4  # grey levels either side of one shade, and the share of a page that it fills
_HEADER_BYTES = 32
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


class Survey(BaseModel):
    """What the folders of a FolderSource, or the list of a TableSource, hold.

    The counts are of rows, or of files with an image's name.

    Sides are in pixels, of the `sampled` files with a readable header; `unreadable` more had none. `grey` says that no
    sampled image has colour. `drawn` says that most look like writing: one shade, the paper, fills a large
    part. `notes` are what the source decided about the folders.
    """

    model_config = ConfigDict(frozen=True)

    labeled: str
    unlabeled: str | None
    classes: Mapping[str, int]
    unlabeled_images: int
    validation_images: int | None
    test_images: int | None
    ignored_files: int
    formats: Mapping[str, int]
    sampled: int
    unreadable: int
    shortest_side: int
    median_side: int
    longest_side: int
    grey: bool
    drawn: bool = True
    notes: tuple[str, ...] = ()

    @property
    def labeled_images(self) -> int:
        """Labelled images outside the validation and test folders."""
        return sum(self.classes.values())

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest."""
        return max(self.classes.values()) / min(self.classes.values())

    @property
    def characters(self) -> bool:
        """Whether the classes are letters or digits, by their names and by what the pictures look like.

        Such images must not be mirrored: a mirrored 2 is not a 2. Photos may have numbers for class names, so pictures
        in colour must also have an alphabet of classes.
        """
        looks = (self.grey and self.median_side <= SMALL_SIDE) or (
            self.drawn and (self.grey or len(self.classes) >= ALPHABET)
        )
        return self.named_like_characters and looks

    @property
    def named_like_characters(self) -> bool:
        """Whether each class has one letter or digit for its name."""
        return all(len(name) == 1 and name.isalnum() for name in self.classes)


def survey(source: FolderSource | TableSource, *, seed: int = 0) -> Survey:
    """Look at the folders or the list of `source`: at all names, and the headers of a few hundred files.

    Raises SourceError for folders that are missing, empty or contradict each other, for a list that cannot be used, and
    if no file in the sample is an image.
    """
    listing = open_source(source).scan()
    table, (labeled, unlabeled) = listing.table, _places(source)
    anywhere = pc.or_(pc.is_null(table["split"]), pc.fill_null(pc.equal(table["split"], "train"), False))
    training = table.filter(pc.and_(anywhere, pc.is_valid(table["label"])))
    pool = table.filter(pc.and_(pc.is_null(table["split"]), pc.is_null(table["label"])))
    held_out = {split: _count(table, split) for split in ("validation", "test")}
    given = {split: isinstance(source, FolderSource) and getattr(source, split) is not None for split in held_out}
    counted = training["label"].value_counts()
    classes = {str(each["values"].as_py()): int(each["counts"].as_py()) for each in counted}
    sample = _sample(table, seed)
    looks = [look for look in map(_look, map(Path, sample)) if look is not None]
    if not looks:
        raise SourceError(
            f"none of the {len(sample)} files looked at in {labeled!r} and {unlabeled!r} is an image that can be read; "
            "give JPEG, PNG, WebP, BMP, GIF or TIFF files"
        )
    return Survey(
        labeled=labeled,
        unlabeled=unlabeled,
        classes=dict(sorted(classes.items())),
        unlabeled_images=_count(table, "unlabeled") + pool.num_rows,
        validation_images=held_out["validation"] if given["validation"] or held_out["validation"] else None,
        test_images=held_out["test"] if given["test"] or held_out["test"] else None,
        ignored_files=listing.ignored,
        formats=dict(Counter(look.format for look in looks).most_common()),
        sampled=len(looks),
        unreadable=len(sample) - len(looks),
        shortest_side=min(look.short for look in looks),
        median_side=int(median(look.short for look in looks)),
        longest_side=max(look.long for look in looks),
        grey=all(look.grey for look in looks),
        drawn=_drawn(sample, seed),
        notes=listing.notes,
    )


def _places(source: FolderSource | TableSource) -> tuple[str, str | None]:
    """Where the labelled and the unlabelled images of `source` are named."""
    return (source.path, source.path) if isinstance(source, TableSource) else (source.labeled, source.unlabeled)


class _Look(BaseModel):
    format: str
    short: int
    long: int
    grey: bool


def _look(path: Path) -> _Look | None:
    """What the header at `path` says; a small picture is decoded to find colour."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large images; they are not decoded here
            form = sniff(file.read(_HEADER_BYTES))
            if form is None:
                return None
            file.seek(0)
            with Image.open(file) as image:
                short, long = min(image.size), max(image.size)
                grey = image.mode in _GREY_MODES
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return _Look(format=form.value, short=short, long=long, grey=grey or (long <= SMALL_SIDE and _colourless(path)))


def _colourless(path: Path) -> bool:
    try:
        pixels = decode(path.read_bytes(), None)
    except (ImageError, OSError):
        return False
    return bool((pixels == pixels[..., :1]).all())


def _sample(table: pa.Table, seed: int) -> list[str]:
    rows = np.random.default_rng(seed).permutation(table.num_rows)[:SAMPLED]
    return [str(path) for path in table["path"].take(pa.array(np.sort(rows))).to_pylist()]


def _drawn(paths: list[str], seed: int) -> bool:
    """Whether in most of some images one shade, give or take, fills at least PAPER of the pixels."""
    chosen = np.random.default_rng(seed).permutation(len(paths))[:DECODED]
    shares = [share for share in (_largest_shade(Path(paths[row])) for row in chosen) if share is not None]
    return not shares or median(shares) >= PAPER


def _largest_shade(path: Path) -> float | None:
    """The share in 0-1 of an image's pixels that are within SHADE of its commonest grey level; None: unreadable."""
    try:
        pixels = decode(path.read_bytes(), SMALL_SIDE)
    except (ImageError, OSError):
        return None
    levels = np.bincount(pixels.mean(axis=-1).astype(np.int64).ravel(), minlength=256)
    window = np.convolve(levels, np.ones(2 * SHADE + 1, np.int64), mode="same")
    return float(window.max() / levels.sum())


def _count(table: pa.Table, split: str) -> int:
    return int(pc.sum(pc.fill_null(pc.equal(table["split"], split), False)).as_py() or 0)
