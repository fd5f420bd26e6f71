"""Places as sources: archives, tables with bytes, records and buckets, in any role, also beside plain folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.images.openers import image_bytes
from selftrain.data.lists.labels import is_mark, without_marks
from selftrain.data.places.opening import open_place
from selftrain.data.places.place import INSIDE, Found, Place
from selftrain.data.sources.folders import rows_of_role
from selftrain.data.sources.layout import SPLIT_NAMES
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing, find_images
from selftrain.data.sources.rows import checked_listing, training_classes
from selftrain.data.sources.tables import TableImages
from selftrain.errors import SourceError

_LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_GROUPED = LISTING_SCHEMA.append(pa.field("group", pa.string()))


def beyond_folders(settings: config.FolderSource) -> bool:
    """Whether a role of `settings` is something else than class folders or a folder of images. Raises SourceError."""
    return any(open_place(path) is not None or list_in(path) is not None for path in _paths(settings).values())


def list_in(folder: str) -> str | None:
    """The list of an imagefolder of Hugging Face: a metadata file that names files and more; None if there is none."""
    from selftrain.data.lists.columns import ROLES
    from selftrain.data.lists.reading import read_list

    for path in (os.path.join(os.path.expanduser(folder), name) for name in _LISTS):
        if os.path.isfile(path):
            names = {name.strip().lower() for name in read_list(Path(path), option=path).column_names}
            if names & {"file_name"} and names & set(ROLES["label"]):
                return path
    return None


@dataclass(frozen=True)
class PlacesImages:
    """Images in the places of a FolderSource's roles, where at least one is more than a plain folder."""

    settings: config.FolderSource
    on_disk: bool = False

    def scan(self) -> Listing:
        tables, ignored, notes = [], 0, list[str]()
        paths = _paths(self.settings)
        for role, path in paths.items():
            table, left_out, said = self._rows(role, path, tuple(other for other in paths.values() if other != path))
            tables.append(table)
            ignored += left_out
            notes += said
        whole = pa.concat_tables(tables, promote_options="default")
        return checked_listing(whole, ignored=ignored, notes=tuple(notes))

    def read(self, path: str) -> bytes:
        place = next((each for each in self._places.values() if each is not None and each.holds(path)), None)
        return image_bytes(path) if place is None else place.read(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)

    def _rows(self, role: str, path: str, others: tuple[str, ...]) -> tuple[pa.Table, int, list[str]]:
        place = self._places[role]
        if place is not None:
            found = place.find(labelled=role != "unlabeled")
            if not found.paths:
                raise SourceError(f"source.{role}: {path!r} holds no images; correct the path")
            if role != "unlabeled":
                _stop_at_splits(found, role, path)
            splits: list[str | None] = found.splits if role == "labeled" else [role] * len(found.paths)
            labels, marked = _marked_out(found, splits, f"source.{role}: {path!r}", self.settings.no_label)
            told = [*found.notes, *marked, *_unlabelled_noted(labels, splits, role, path)]
            return _table(found, labels, splits), found.ignored, told
        metadata = list_in(path)
        if metadata is not None:
            return _of_list(metadata, role, self.settings.no_label)
        if not os.path.isdir(path):
            raise SourceError(
                f"source.{role}: {path!r} is neither a folder nor a file (seen from {os.getcwd()!r}); correct the path"
            )
        return rows_of_role(role, path, others, self.settings.no_label)

    @cached_property
    def _places(self) -> Mapping[str, Place | None]:
        return {role: open_place(path) for role, path in _paths(self.settings).items()}


def _paths(settings: config.FolderSource) -> dict[str, str]:
    """The configured places by role. Raises SourceError if two are the same."""
    named = {
        "labeled": settings.labeled,
        "validation": settings.validation,
        "test": settings.test,
        "unlabeled": settings.unlabeled,
    }
    given = {role: path for role, path in named.items() if path is not None}
    paths = {role: path if "://" in path else os.path.expanduser(path) for role, path in given.items()}
    for role, path in paths.items():
        same = next((other for other in paths if paths[other].rstrip("/") == path.rstrip("/")), role)
        if same != role:
            raise SourceError(f"source.{role} and source.{same} are the same place {path!r}; give each its own")
    return {role: path if "://" in path or INSIDE in path else os.path.normpath(path) for role, path in paths.items()}


def _stop_at_splits(found: Found, role: str, path: str) -> None:
    """Raise SourceError if the labels of a place are the names of splits, as the first folders of an archive may be."""
    labels = sorted({label for label in found.labels if label is not None})
    roles = {SPLIT_NAMES.get(label.lower(), ""): label for label in labels}
    if len(labels) > 1 and "" not in roles and "labeled" in roles and len(roles) == len(labels):
        inside = "/" if "://" in path or INSIDE in path or os.path.isdir(path) else INSIDE
        given = " ".join(f"--{name} {path.rstrip('/')}{inside}{label}" for name, label in roles.items())
        raise SourceError(
            f"source.{role}: the folders in {path!r} are splits, not classes ({', '.join(labels)}); give each its "
            f"place: selftrain init {given}, or the same keys under `source`"
        )


def _marked_out(
    found: Found, splits: Sequence[str | None], where: str, no_label: Collection[str] | None
) -> tuple[list[str | None], list[str]]:
    """The labels of a place, None for each mark of a missing one and in the pool; and what is said of the marks.

    The marks are `no_label`, or else what programs write in place of a word. Raises SourceError for a mark in a split
    that must have labels.
    """
    labels = [None if split == "unlabeled" else label for label, split in zip(found.labels, splits, strict=True)]
    rows = [row for row, word in enumerate(found.words) if word or no_label is not None]
    words = pa.chunked_array([pa.array([labels[row] for row in rows], pa.string())])
    marks = [word for word in words.unique().to_pylist() if word and is_mark(word)] if no_label is None else no_label
    kept, said = without_marks(words, marks)
    remedy = "if that is a class, write source.no_label: [], or give --class to `selftrain init`"
    for row, label in zip(rows, kept.to_pylist(), strict=True):
        if label != labels[row] and splits[row] is not None:
            raise SourceError(f"{where}: {said}, and {splits[row]} images need one; {remedy}")
        labels[row] = label
    return labels, [f"{where}: {said}; {remedy}"] if said else []


def _unlabelled_noted(labels: Sequence[str | None], splits: Sequence[str | None], role: str, path: str) -> list[str]:
    """What is said of images without a label where labelled ones are given."""
    open_rows = zip(labels, splits, strict=True)
    count = sum(label is None and split != "unlabeled" for label, split in open_rows) if role == "labeled" else 0
    return [f"{count} images of {path!r} have no label: they join the unlabelled ones"] if count else []


def _table(found: Found, labels: Sequence[str | None], splits: Sequence[str | None]) -> pa.Table:
    columns = (found.paths, labels, splits, found.sizes, found.mtimes_ns, found.groups)
    return pa.table([pa.array(each, of.type) for each, of in zip(columns, _GROUPED, strict=True)], schema=_GROUPED)


def _of_list(path: str, role: str, no_label: list[str] | None) -> tuple[pa.Table, int, list[str]]:
    listing = TableImages(config.TableSource(path=path, no_label=no_label), labelled=role != "unlabeled").scan()
    table = listing.table
    if role != "labeled":
        table = table.set_column(2, "split", pa.array([role] * len(table), pa.string()))
    if "group" in table.column_names and pc.all(pc.is_null(table["group"])).as_py():
        table = table.drop_columns(["group"])
    return table, listing.ignored, [*listing.notes, *_beside_list(path, listing.table)]


def _beside_list(path: str, table: pa.Table) -> list[str]:
    """What is said of images in the folder of the list at `path` that it leaves out, or that lie in another class."""
    folder, labels = os.path.dirname(path) or ".", table["label"].to_pylist()
    listed = {os.path.realpath(each): label for each, label in zip(table["path"].to_pylist(), labels, strict=True)}
    left_out = [each for each in find_images(folder).paths if os.path.realpath(each) not in listed]
    classes = set(labels) - {None}
    parents = ((os.path.basename(os.path.dirname(each)), label) for each, label in listed.items())
    elsewhere = sum(label is not None and parent in classes and parent != label for parent, label in parents)
    said = []
    if left_out:
        said.append(f"{len(left_out)} images beside {path!r} are not in it and are left out, such as {min(left_out)!r}")
    if elsewhere:
        said.append(
            f"{elsewhere} images lie in a folder named after another class than {path!r} says: the list counts. Move "
            "it away if the folders are right"
        )
    return said
