"""Survey: what a user's folders of images hold, found from file names and a sample of headers."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.config import FolderSource, TableSource
from selftrain.data.images.decode import DEPTHS, decode, largest_value, quiet
from selftrain.data.images.formats import HEADER_BYTES, Format, sniff
from selftrain.data.images.openers import MOST_BYTES, opener_of
from selftrain.data.sources.source import ImageSource, open_source
from selftrain.errors import ImageError, SelftrainError, SourceError

SAMPLED = 256  # files whose header is read
SAMPLED_ELSEWHERE = 64  # files that are read whole, because only their source can open them
SMALL_SIDE = 64  # pixels; smaller pictures are decoded to find colour
ALPHABET = 10  # classes
DECODED = 48  # files that are decoded to tell writing from photos
STRIP, STRIPS = 2, 0.1  # how often longer than wide, and the share of such images that is told
SHADE, PAPER = 16, 0.4  # grey levels either side of one shade, and the share of a page that it fills
_MAY_BE_DEEP = (Format.PNG, Format.TIFF, Format.PPM, Format.JPEG2000)
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


class Survey(BaseModel):
    """What the folders of a FolderSource, or the list of a TableSource, hold.

    The counts are of rows, or of files with an image's name.

    Sides are in pixels, of the `sampled` files with a readable header; `unreadable` more had none. `grey` says that no
    sampled image has colour. `drawn` says that most look like writing: one shade, the paper, fills a large
    part. `bits` is how many of 16 bits the grey pictures fill, if it is clearly fewer. `notes` are what the source
    decided about the folders.
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
    bits: int | None = None
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
    images = open_source(source)
    listing = images.scan()
    table, (labeled, unlabeled) = listing.table, _places(source)
    most = SAMPLED if images.on_disk else SAMPLED_ELSEWHERE
    anywhere = pc.or_(pc.is_null(table["split"]), pc.fill_null(pc.equal(table["split"], "train"), False))
    training = table.filter(pc.and_(anywhere, pc.is_valid(table["label"])))
    pool = table.filter(pc.and_(pc.is_null(table["split"]), pc.is_null(table["label"])))
    held_out = {split: _count(table, split) for split in ("validation", "test")}
    given = {split: isinstance(source, FolderSource) and getattr(source, split) is not None for split in held_out}
    counted = training["label"].value_counts()
    classes = {str(each["values"].as_py()): int(each["counts"].as_py()) for each in counted}
    sample = _sample(table.filter(pc.less_equal(table["size"], MOST_BYTES)), seed, most)
    looks = [look for look in (_look(images, path) for path in sample) if look is not None]
    if not looks:
        raise SourceError(
            f"none of the {len(sample)} files looked at in {labeled!r} and {unlabeled!r} is an image that can be read; "
            "give JPEG, PNG, WebP, AVIF, JPEG 2000, BMP, GIF, TIFF or PPM files"
        )
    bits = _bits(images, sample)
    decoded = _decode_some(images, sample, seed, bits)
    if not decoded.shares and decoded.errors:
        raise SourceError(f"{labeled!r} and {unlabeled!r}: {decoded.notes[0]}")
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
        drawn=decoded.drawn,
        bits=bits,
        notes=(*listing.notes, *decoded.notes, *_strips_noted(looks)),
    )


def _places(source: FolderSource | TableSource) -> tuple[str, str | None]:
    """Where the labelled and the unlabelled images of `source` are named."""
    return (source.path, source.path) if isinstance(source, TableSource) else (source.labeled, source.unlabeled)


class _Look(BaseModel):
    format: str
    short: int
    long: int
    grey: bool


def _strips_noted(looks: list[_Look]) -> list[str]:
    """What is said where images are so long that their central square is little of them."""
    strips = [look.short / look.long for look in looks if look.long >= STRIP * look.short]
    if len(strips) < STRIPS * len(looks):
        return []
    return [
        f"{len(strips)} of {len(looks)} images looked at are {STRIP} times as long as wide, or more: a model sees the "
        f"central square of each, {median(strips):.0%} of the picture. If the rest matters, cut them into squares or "
        "pad them to squares first"
    ]


def _look(source: ImageSource, path: str) -> _Look | None:
    """What the header at `path` says; a small picture is decoded to find colour."""
    try:
        with _opened(source, path) as file, quiet():
            form = sniff(file.read(HEADER_BYTES))
            if form is None:
                return None
            file.seek(0)
            image = opener_of(form)(file)
            short, long, mode = min(image.size), max(image.size), image.mode
    except (OSError, ValueError, SyntaxError, SelftrainError):
        return None
    grey = mode in _GREY_MODES or (long <= SMALL_SIDE and _colourless(source, path))
    return _Look(format=form.value, short=short, long=long, grey=grey)


def _opened(source: ImageSource, path: str) -> IO[bytes]:
    """The file at `path`: on this machine only what is asked for is read."""
    return open(path, "rb") if source.on_disk else io.BytesIO(source.read(path))


def _colourless(source: ImageSource, path: str) -> bool:
    try:
        pixels = decode(source.read(path), None)
    except (ImageError, OSError):
        return False
    return bool((pixels == pixels[..., :1]).all())


def _sample(table: pa.Table, seed: int, most: int) -> list[str]:
    rows = np.random.default_rng(seed).permutation(table.num_rows)[:most]
    return [str(path) for path in table["path"].take(pa.array(np.sort(rows))).to_pylist()]


@dataclass(frozen=True)
class _Decoded:
    """Some files, decoded: `shares` as `_largest_shade` gives them, and why the others could not be."""

    shares: tuple[float, ...]
    errors: tuple[ImageError, ...]

    @property
    def drawn(self) -> bool:
        """Whether in most of the images one shade, give or take, fills at least PAPER of the pixels."""
        return not self.shares or median(self.shares) >= PAPER

    @property
    def notes(self) -> tuple[str, ...]:
        """How many could not be decoded, and why the first of each reason."""
        count = len(self.shares) + len(self.errors)
        first = {str(error.reason): error.message for error in reversed(self.errors)}
        counts = Counter(str(error.reason) for error in self.errors)
        return tuple(
            f"{counts[reason]} of {count} images tried cannot be used ({reason}): {message.removeprefix('image: ')}"
            for reason, message in first.items()
        )


def _bits(source: ImageSource, paths: list[str]) -> int | None:
    """How many of 16 bits the grey pictures of the sample fill: 8, 10, 12 or 14; None if more, or there are none.

    Only where most of them fill fewer than 15 is it a matter of the set, and not of a dark picture.
    """
    largest = [value for value in (_largest(source, path) for path in paths) if value]
    if not largest or max(largest) >= 1 << DEPTHS[-1]:
        return None
    return next(bits for bits in DEPTHS if max(largest) < 1 << bits)


def _largest(source: ImageSource, path: str) -> int | None:
    """The largest value of a grey picture of 16 bits; None for any other, or one that cannot be read."""
    try:
        with _opened(source, path) as file:
            head = file.read(HEADER_BYTES)
            if sniff(head) not in _MAY_BE_DEEP:
                return None
            return largest_value(head + file.read())
    except (OSError, ValueError, SelftrainError):
        return None


def _decode_some(source: ImageSource, paths: list[str], seed: int, bits: int | None) -> _Decoded:
    chosen = np.random.default_rng(seed).permutation(len(paths))[:DECODED]
    shares, errors = list[float](), list[ImageError]()
    for row in chosen:
        try:
            shares.append(_largest_shade(decode(source.read(paths[row]), SMALL_SIDE, bits=bits)))
        except ImageError as error:
            errors.append(error)
        except OSError:
            continue
    return _Decoded(tuple(shares), tuple(errors))


def _largest_shade(pixels: npt.NDArray[np.uint8]) -> float:
    """The share in 0-1 of an image's pixels that are within SHADE of its commonest grey level."""
    levels = np.bincount(pixels.mean(axis=-1).astype(np.int64).ravel(), minlength=256)
    window = np.convolve(levels, np.ones(2 * SHADE + 1, np.int64), mode="same")
    return float(window.max() / levels.sum())


def _count(table: pa.Table, split: str) -> int:
    return int(pc.sum(pc.fill_null(pc.equal(table["split"], split), False)).as_py() or 0)
