"""Folder source: class folders of labelled images, and a folder of unlabelled ones."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from selftrain import config
from selftrain.data.images.openers import image_bytes
from selftrain.data.lists.labels import without_marks
from selftrain.data.sources.layout import folders_in, stop_at_answers, stop_at_splits, super_classes
from selftrain.data.sources.listing import LISTING_SCHEMA, FoundFiles, Listing, find_images
from selftrain.data.sources.rows import checked_listing, training_classes
from selftrain.errors import SourceError
from selftrain.naming import name_rows


@dataclass(frozen=True)
class FolderImages:
    """Class folders, a folder of unlabelled images, and optionally class folders for validation and test.

    The paths of its listing start with the folders as configured.
    """

    settings: config.FolderSource
    on_disk: bool = True

    def scan(self) -> Listing:
        roots = self._roots()
        parts: list[pa.Table] = []
        ignored, notes = 0, list[str]()
        for split, root in roots.items():
            others = tuple(other for name, other in roots.items() if name != split)
            table, left_out, said = rows_of_role(split, root, others, self.settings.no_label)
            parts.append(table)
            ignored += left_out
            notes += said
        return checked_listing(pa.concat_tables(parts), ignored=ignored, notes=tuple(notes))

    def read(self, path: str) -> bytes:
        return image_bytes(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)

    def _roots(self) -> dict[str, str]:
        """Configured folders by role. Raises SourceError if one is missing, or two are the same."""
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
                raise SourceError(
                    f"source.{role}: {root!r} is not a folder (seen from {os.getcwd()!r}); correct the path"
                )
            same = real.setdefault(os.path.realpath(root), role)
            if same != role:
                raise SourceError(f"source.{role} and source.{same} are the same folder {root!r}; give each its own")
        return roots


def rows_of_role(
    role: str, root: str, others: tuple[str, ...], no_label: Collection[str] | None = None
) -> tuple[pa.Table, int, list[str]]:
    """The images of the folder `root`, which is the `role` of a FolderSource, apart from the folders `others`.

    Those in class folders named in `no_label` have no label. Beside them: how many files hold no image, and notes.
    Raises SourceError for folders that cannot be classes.
    """
    if role == "unlabeled":
        return (*_rows(root, label=None, split=role, apart_from=others), [])
    stop_at_answers(root, f"source.{role}")
    stop_at_splits(root, f"source.{role}")
    table, ignored, notes = _class_folders(root, split=None if role == "labeled" else role, apart_from=others)
    labels, said = without_marks(table["label"], no_label or ())
    place = table.schema.get_field_index("label")
    return table.set_column(place, table.schema.field(place), labels), ignored, [*notes, *([said] if said else [])]


def _class_folders(root: str, *, split: str | None, apart_from: tuple[str, ...]) -> tuple[pa.Table, int, list[str]]:
    """The images of the class folders in `root`, labelled by folder, and what was left out.

    That is the number of files that are not named like images, and notes on folders.
    """
    excluded = {os.path.realpath(other) for other in apart_from}
    names = folders_in(root)
    names = [name for name in names if os.path.realpath(os.path.join(root, name)) not in excluded]
    if not names:
        raise SourceError(f"{root!r} holds no class folders; put the images of each class into a folder named after it")
    for name in names:
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # os.fsdecode's escapes
            raise SourceError(f"class folder {name!r} in {root!r} has a name that is not UTF-8; rename it")
    folders = {name: os.path.join(root, name) for name in names}
    parts, empty, ignored = [], list[str](), 0
    read: dict[tuple[int, int], tuple[str, str]] = {}
    for name, folder in folders.items():
        files = find_images(folder, apart_from=apart_from)
        _refuse_shared(files, name, read)
        ignored += files.ignored
        if not files.paths:
            empty.append(name)
        else:
            parts.append(_table(files, label=name, split=split))
    if not parts:
        raise SourceError(f"the class folders in {root!r} hold no image: {name_rows(names)}; add some")
    loose, left_out = _rows(root, label=None, split=split, apart_from=(*apart_from, *folders.values()))
    if loose.num_rows:
        raise SourceError(
            f"{loose.num_rows} image(s) without a label directly in {root!r}: {name_rows(loose['path'].to_pylist())}; "
            "move each into its class folder, or into source.unlabeled"
        )
    return pa.concat_tables(parts), ignored + left_out, _notes(root, names, empty)


def _refuse_shared(files: FoundFiles, name: str, read: dict[tuple[int, int], tuple[str, str]]) -> None:
    """Raise SourceError if the class `name` holds a folder that another class holds too; else add its own to `read`."""
    for identity, path in files.folders.items():
        other, there = read.setdefault(identity, (name, path))
        if other != name:
            raise SourceError(
                f"the classes {other!r} and {name!r} share a folder, because a link leads to it: {there!r}, {path!r}. "
                "Its images would have two labels; remove the link"
            )


def _notes(root: str, names: list[str], empty: list[str]) -> list[str]:
    """What the owner of the class folders `names` in `root` should know."""
    notes = [f"folders without an image in {root!r} were left out: {name_rows(empty)}"] if empty else []
    for name, inside in super_classes(root, names).items():
        notes.append(
            f"the class {name!r} in {root!r} holds folders of its own ({name_rows(inside)}): all their images are "
            f"{name!r}"
        )
    return notes


def _rows(root: str, *, label: str | None, split: str | None, apart_from: tuple[str, ...]) -> tuple[pa.Table, int]:
    files = find_images(root, apart_from=apart_from)
    return _table(files, label=label, split=split), files.ignored


def _table(files: FoundFiles, *, label: str | None, split: str | None) -> pa.Table:
    count = len(files.paths)
    columns = {
        "path": pa.array(files.paths, pa.string()),
        "label": pa.array([label] * count, pa.string()),
        "split": pa.array([split] * count, pa.string()),
        "size": pa.array(files.sizes, pa.int64()),
        "mtime_ns": pa.array(files.mtimes_ns, pa.int64()),
    }
    return pa.table(columns, schema=LISTING_SCHEMA)
