"""Sources: where a user's images, labels and given splits come from; never written to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.chunks import read_file
from selftrain.data.listing import LISTING_SCHEMA, Listing, find_images
from selftrain.errors import SourceError
from selftrain.naming import ROWS_NAMED, name_rows

SPLITS = ("train", "validation", "test", "unlabeled")


class ImageSource(Protocol):
    """What ingest needs of a source. `scan` is cheap: it reads no image."""

    @property
    def on_disk(self) -> bool:
        """True when a path of the listing is a file that any process can open; False: only `read` knows."""

    def scan(self) -> Listing:
        """Everything the source holds now. Raises SourceError where labels, images and splits do not fit together."""

    def read(self, path: str) -> bytes:
        """The encoded image at `path`, one of the listing's. Raises OSError."""

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""


def open_source(settings: config.Source) -> ImageSource:
    """The ImageSource that `settings` describe; nothing is read yet."""
    from selftrain.data.array_sources import DigitsImages, KerasImages
    from selftrain.data.table_source import TableImages

    match settings:
        case config.DigitsSource():
            return DigitsImages(settings)
        case config.FolderSource():
            return FolderImages(settings)
        case config.TableSource():
            return TableImages(settings)
        case config.KerasDatasetSource():
            return KerasImages(settings)
        case _:
            assert_never(settings)


@dataclass(frozen=True)
class FolderImages:
    """A folder of class folders, a folder of unlabelled images, optionally class folders for validation and test.

    The paths of its listing start with the folders as they were configured.
    """

    settings: config.FolderSource
    on_disk: bool = True

    def scan(self) -> Listing:
        roots = self._roots()
        parts: list[pa.Table] = []
        ignored = 0
        for split, root in roots.items():
            others = tuple(other for name, other in roots.items() if name != split)
            if split == "unlabeled":
                table, left_out = _rows(root, label=None, split=split, apart_from=others)
            else:
                table, left_out = _class_folders(root, split=None if split == "labeled" else split, apart_from=others)
            parts.append(table)
            ignored += left_out
        listing = Listing.build(pa.concat_tables(parts), ignored=ignored)
        check_rows(listing.table, row_name=lambda row: repr(listing.table["path"][row].as_py()))
        return listing

    def read(self, path: str) -> bytes:
        return read_file(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)

    def _roots(self) -> dict[str, str]:
        """Configured folders by their role; SourceError if one is missing or two are the same."""
        named = {
            "labeled": self.settings.labeled,
            "validation": self.settings.validation,
            "test": self.settings.test,
            "unlabeled": self.settings.unlabeled,
        }
        roots = {role: os.path.normpath(os.path.expanduser(root)) for role, root in named.items() if root is not None}
        real: dict[str, str] = {}
        for role, root in roots.items():
            if not os.path.isdir(root):
                raise SourceError(f"source.{role}: {root!r} is no folder (seen from {os.getcwd()!r}); correct the path")
            same = real.setdefault(os.path.realpath(root), role)
            if same != role:
                raise SourceError(f"source.{role} and source.{same} are the same folder {root!r}; give each its own")
        return roots


def _class_folders(root: str, *, split: str | None, apart_from: tuple[str, ...]) -> tuple[pa.Table, int]:
    """The images of the class folders in `root`, with the folder's name as label, and the count left out by name."""
    apart = {os.path.realpath(other) for other in apart_from}
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    names = [name for name in names if os.path.realpath(os.path.join(root, name)) not in apart]
    if not names:
        raise SourceError(f"{root!r} holds no class folders; put the images of each class into a folder named after it")
    for name in names:
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # os.fsdecode's escapes
            raise SourceError(f"class folder {name!r} in {root!r} has a name that is no UTF-8; rename it")
    folders = {name: os.path.join(root, name) for name in names}
    parts, ignored = [], 0
    for name, folder in folders.items():
        table, left_out = _rows(folder, label=name, split=split, apart_from=apart_from)
        if table.num_rows == 0:
            raise SourceError(f"class folder {folder!r} holds no image; add some, or remove the folder")
        parts.append(table)
        ignored += left_out
    loose, left_out = _rows(root, label=None, split=split, apart_from=(*apart_from, *folders.values()))
    if loose.num_rows:
        raise SourceError(
            f"{loose.num_rows} image(s) without label directly in {root!r}: {name_rows(loose['path'].to_pylist())}; "
            "move each into its class folder, or into source.unlabeled"
        )
    return pa.concat_tables(parts), ignored + left_out


def _rows(root: str, *, label: str | None, split: str | None, apart_from: tuple[str, ...]) -> tuple[pa.Table, int]:
    found = find_images(root, apart_from=apart_from)
    count = len(found.paths)
    columns = {
        "path": pa.array(found.paths, pa.string()),
        "label": pa.array([label] * count, pa.string()),
        "split": pa.array([split] * count, pa.string()),
        "size": pa.array(found.sizes, pa.int64()),
        "mtime_ns": pa.array(found.mtimes_ns, pa.int64()),
    }
    return pa.table(columns, schema=LISTING_SCHEMA), found.ignored


def training_classes(table: pa.Table) -> tuple[str, ...]:
    """Labels of the rows that are, or may become, training images; sorted."""
    training = pc.or_(pc.is_null(table["split"]), pc.fill_null(pc.equal(table["split"], "train"), False))
    labels = table["label"].filter(training).drop_null().unique().to_pylist()
    return tuple(sorted(labels))


def check_rows(table: pa.Table, *, row_name: Callable[[int], str]) -> None:
    """Stop with the rows named where labels and splits do not fit together.

    `table` has the columns path, label and split; `row_name(row)` says how the user calls a row. Raises SourceError
    for an unknown split, a label in split unlabeled, a labelled split without label, a class without training images,
    and a path that is there twice.
    """

    def stop_at(bad: pa.ChunkedArray, problem: str, remedy: str) -> None:
        rows = pc.indices_nonzero(pc.fill_null(bad, False)).to_pylist()
        stop_at_rows(rows, row_name=row_name, problem=problem, remedy=remedy)

    label, split = table["label"], table["split"]
    known = pc.or_(pc.is_null(split), pc.is_in(split, pa.array(SPLITS)))
    stop_at(pc.invert(known), "unknown split", f"allowed are {', '.join(SPLITS)} and nothing (split off by selftrain)")
    unlabeled = pc.fill_null(pc.equal(split, "unlabeled"), False)
    labeled_split = pc.and_(pc.is_valid(split), pc.invert(unlabeled))
    stop_at(pc.and_(pc.is_null(label), labeled_split), "image without label in a labelled split", "label or unlabel it")
    stop_at(pc.and_(pc.is_valid(label), unlabeled), "label in split unlabeled", "remove the label or the split")
    classes = training_classes(table)
    unknown = pc.and_(pc.is_valid(label), pc.invert(pc.is_in(label, pa.array(classes, pa.string()))))
    stop_at(unknown, "label without training images", f"the training classes are {', '.join(classes[:20]) or 'none'}")
    if pc.count_distinct(table["path"]).as_py() < table.num_rows:
        counts = table["path"].value_counts()
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        stop_at(pc.is_in(table["path"], twice), "image listed more than once", "keep one row for each image")


def stop_at_rows(rows: Sequence[int], *, row_name: Callable[[int], str], problem: str, remedy: str) -> None:
    """Raise a SourceError that names the first of `rows`, if there are any."""
    if rows:
        named = name_rows([row_name(row) for row in rows[:ROWS_NAMED]], len(rows))
        raise SourceError(f"{problem}: {named}; {remedy}")
