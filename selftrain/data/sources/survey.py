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

from selftrain.config import FolderSource
from selftrain.data.images.decode import decode
from selftrain.data.images.formats import sniff
from selftrain.data.sources.source import open_source
from selftrain.errors import ImageError, SourceError

SAMPLED = 256  # files whose header is read
SMALL_SIDE = 64  # pixels; smaller pictures are decoded to find colour
_HEADER_BYTES = 32
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


class Survey(BaseModel):
    """What the folders of a FolderSource hold; the counts are of files with an image's name.

    Sides are in pixels, of the `sampled` files with a readable header; `unreadable` more had none. `grey` says that no
    sampled image has colour.
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
        """Whether each class is one letter or digit. Such images must not be mirrored: a mirrored 2 is not a 2."""
        return all(len(name) == 1 and name.isalnum() for name in self.classes)


def survey(source: FolderSource, *, seed: int = 0) -> Survey:
    """Look at the folders of `source`: at all names, and the headers of a few hundred files.

    Raises SourceError for folders that are missing, empty or contradict each other, and if no file in the sample is an
    image.
    """
    listing = open_source(source).scan()
    table = listing.table
    training = table.filter(pc.is_null(table["split"]))
    counted = training["label"].value_counts()
    classes = {str(each["values"].as_py()): int(each["counts"].as_py()) for each in counted}
    sample = _sample(table, seed)
    looks = [look for look in map(_look, map(Path, sample)) if look is not None]
    if not looks:
        raise SourceError(
            f"none of the {len(sample)} files looked at in {source.labeled!r} and {source.unlabeled!r} is an image "
            "that can be read; give folders of JPEG, PNG, WebP, BMP, GIF or TIFF files"
        )
    return Survey(
        labeled=source.labeled,
        unlabeled=source.unlabeled,
        classes=dict(sorted(classes.items())),
        unlabeled_images=_count(table, "unlabeled"),
        validation_images=_count(table, "validation") if source.validation else None,
        test_images=_count(table, "test") if source.test else None,
        ignored_files=listing.ignored,
        formats=dict(Counter(look.format for look in looks).most_common()),
        sampled=len(looks),
        unreadable=len(sample) - len(looks),
        shortest_side=min(look.short for look in looks),
        median_side=int(median(look.short for look in looks)),
        longest_side=max(look.long for look in looks),
        grey=all(look.grey for look in looks),
    )


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


def _count(table: pa.Table, split: str) -> int:
    return int(pc.sum(pc.fill_null(pc.equal(table["split"], split), False)).as_py() or 0)
