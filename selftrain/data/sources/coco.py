"""Source of objects: images with a COCO file, Pascal VOC files or YOLO's, and a folder of images without labels.

A manifest has one label an image, and a detector's image has many objects. So all labelled images have one label there,
ANNOTATED: ingest then groups near-duplicates and copies whatever they show. The objects go into the annotations table.
The listing has their number by class, so that the splits share every class.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from selftrain import config
from selftrain.data import columns
from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.annotations.table import Annotations
from selftrain.data.images.openers import image_bytes
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import LISTING_SCHEMA, OPTIONAL_SCHEMA, Listing, find_images
from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.label_studio import holds_tasks, read_label_studio
from selftrain.data.sources.objects.labelled import DrawnBoxes, LabelledImages
from selftrain.data.sources.objects.voc import holds_images, read_voc, voc_folders
from selftrain.data.sources.objects.yolo import read_yolo
from selftrain.data.sources.rows import checked_listing, training_classes
from selftrain.errors import SourceError
from selftrain.naming import name_rows

ANNOTATED = "annotated images"


@dataclass(frozen=True)
class CocoImages:
    """The images of a CocoSource."""

    settings: config.CocoSource
    on_disk: bool = True

    def scan(self) -> Listing:
        """See `ImageSource.scan`. The COCO files are read in full, since a wrong one must stop a run at once."""
        notes: list[str] = []
        tables, seen = [], set[str]()
        for split, labelled in self.labelled:
            paths = labelled.images["path"].to_pylist()
            states = [os.stat(path) for path in paths]
            sizes, times = [each.st_size for each in states], [each.st_mtime_ns for each in states]
            groups = labelled.images["group"].to_pylist()
            objects = ObjectCounts.of(labelled.annotations, labelled.images["name"]).texts(len(paths))
            _refuse_shared(paths, seen, split)
            part = _rows(paths, sizes, times, label=ANNOTATED, split=split, groups=groups, objects=objects)
            tables.append(part)
            seen |= set(map(os.path.realpath, paths))
            notes += _notes(labelled, split)
        ignored = 0
        if self.settings.unlabeled is not None:
            found = find_images(_folder(self.settings.unlabeled))
            ignored = found.ignored
            files = zip(found.paths, found.sizes, found.mtimes_ns, strict=True)
            pool = [each for each in files if os.path.realpath(each[0]) not in seen]
            none: list[str | None] = [None] * len(pool)
            columns = [list(column) for column in zip(*pool, strict=True)] or [[], [], []]
            tables.append(_rows(*columns, label=None, split="unlabeled", groups=none, objects=none))
            if len(pool) < len(found.paths):
                notes.append(f"{len(found.paths) - len(pool)} images of {self.settings.unlabeled!r} are labelled ones")
        return checked_listing(pa.concat_tables(tables), ignored=ignored, notes=tuple(notes))

    def read(self, path: str) -> bytes:
        """The file at `path`."""
        return image_bytes(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """ANNOTATED alone. The classes to find are those of the annotations."""
        return training_classes(listing.table)

    @cached_property
    def labelled(self) -> tuple[tuple[str | None, LabelledImages], ...]:
        """The images and objects of each COCO file, and the split that it is for; None: selftrain splits it.

        Raises SourceError for a file that contradicts itself, the others or its images.
        """
        s = self.settings
        read = _read(_path(s.annotations), _folder(s.images), classes=s.classes)
        first = _drawn_by_people(read, s.annotations)
        given = (("validation", s.validation), ("test", s.test))
        held_out = ((split, path) for split, path in given if path is not None)
        return ((None, first), *((split, self._like(first, path, split)) for split, path in held_out))

    def _like(self, first: LabelledImages, file: str, split: str) -> LabelledImages:
        """The COCO file for a split, with the classes of the `first` one; it may name fewer.

        Its images lie in the folder of the first one's, or else beside the file itself.
        """
        root, own, names = _folder(self.settings.images), _path(file), first.label_map.names
        if own.is_dir():
            own, beside = voc_folders(own)
            root = str(beside) if holds_images(beside) else root
        try:
            read = _read(own, root, split=split)
        except SourceError:
            beside = own.parent
            if own.is_dir() or os.path.realpath(beside) == os.path.realpath(root):
                raise
            read = _read(own, str(beside), split=split)
        unknown = [name for name in read.label_map.names if name not in names]
        if unknown and self.settings.classes is None:
            raise SourceError(
                f"{file!r} has the classes {name_rows(unknown)}, which {self.settings.annotations!r} does not name; a "
                "detector learns the classes of that file: add them there, or leave them out here"
            )
        return replace(_drawn_by_people(read, file), annotations=_with_classes(read.annotations, first.annotations))

    @property
    def drawn(self) -> DrawnBoxes:
        """The boxes of all files as they were drawn, before they were cut at the borders of their images."""
        whole = DrawnBoxes()
        for _, labelled in self.labelled:
            whole = whole.and_also(labelled.drawn)
        return whole

    def objects_in(self, manifest: Manifest) -> Annotations:
        """The objects of the images that `manifest` holds, under its image ids."""
        at = dict(zip(manifest.table["origin"].to_pylist(), manifest.table["image_id"].to_pylist(), strict=True))
        parts = []
        for _, labelled in self.labelled:
            names, paths = labelled.images["name"].to_pylist(), labelled.images["path"].to_pylist()
            known = [(name, at[path]) for name, path in zip(names, paths, strict=True) if path in at]
            parts.append(labelled.annotations.with_image_ids([name for name, _ in known], [id for _, id in known]))
        whole = parts[0]
        for each in parts[1:]:
            whole = whole.and_also(each)
        return whole


def _read(
    path: Path, images: str, *, classes: tuple[str, ...] | None = None, split: str | None = None
) -> LabelledImages:
    """The images and objects at `path`: a folder holds Pascal VOC files, a YAML file is YOLO's, a list of tasks Label
    Studio's, else it is COCO's.
    """
    if path.is_dir():
        return read_voc(path, images=images, classes=classes, split=split)
    if path.suffix in (".yaml", ".yml"):
        return read_yolo(path, classes=classes, split=split)
    if holds_tasks(path):
        return read_label_studio(path, images=images, classes=classes, split=split)
    return read_coco(path, images=images, classes=classes, split=split)


def _refuse_shared(paths: list[str], seen: set[str], split: str | None) -> None:
    """Raise SourceError for held-out images that are in `seen`, the files of the splits before."""
    shared = [path for path in paths if os.path.realpath(path) in seen]
    if shared:
        raise SourceError(
            f"{len(shared)} of {len(paths)} {split} images are listed for another split too, such as {shared[0]!r}: a "
            "model would be judged by what it has seen. Leave them out, or give no such split: a run draws its own"
        )


def _drawn_by_people(read: LabelledImages, file: str) -> LabelledImages:
    """`read`. Raises SourceError for objects that a model found: they would be taken for the truth."""
    found = int((~read.annotations.is_human).sum())
    if found:
        raise SourceError(
            f"{file!r} holds {found} objects that a model found (source: pseudo); a run would learn from them, or be "
            "judged by them, as if people had drawn them. Take them out, or set their source to human once looked at"
        )
    return read


def _with_classes(objects: Annotations, like: Annotations) -> Annotations:
    """`objects` under the class names of `like`; those of other classes are left out."""
    names, own = like.label_map.names, objects.label_map.names
    new = np.array([names.index(name) if name in names else -1 for name in own], np.int32)
    labels = new[objects.labels]
    kept = objects.take(labels >= 0)
    column = {"label": pa.array(new[kept.labels], pa.int32())}
    return Annotations.build(columns.with_columns(kept.table, column), like.label_map)


def _rows(
    paths: list[str],
    sizes: list[int],
    times: list[int],
    *,
    label: str | None,
    split: str | None,
    groups: list[str | None],
    objects: Sequence[str | None],
) -> pa.Table:
    values = {
        "path": paths,
        "label": [label] * len(paths),
        "split": [split] * len(paths),
        "size": sizes,
        "mtime_ns": times,
        "group": groups,
        "objects": objects,
    }
    return pa.table(values, schema=pa.schema([*LISTING_SCHEMA, *map(OPTIONAL_SCHEMA.field, ("group", "objects"))]))


def _path(file: str) -> Path:
    return Path(file).expanduser()


def _folder(path: str) -> str:
    folder = os.path.normpath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        raise SourceError(f"{path!r} is not a folder (seen from {os.getcwd()!r}); correct the path in source")
    return folder


def _drawn_twice(objects: Annotations) -> int:
    """How many objects have the very box and class of the one before; the table is sorted by these."""
    key = np.concatenate([objects.image_codes[:, None], objects.labels[:, None], objects.boxes], axis=1)
    return int(np.all(key[1:] == key[:-1], axis=1).sum())


def _notes(labelled: LabelledImages, split: str | None) -> list[str]:
    """What the owner of a COCO file should know of it."""
    for_what = f"{split} file: " if split else ""
    objects = np.bincount(labelled.annotations.labels, minlength=len(labelled.label_map))
    named = ", ".join(f"{name} {count}" for name, count in zip(labelled.label_map.names, objects, strict=True))
    said = [f"{for_what}{len(labelled.annotations)} objects: {named}"]
    twice = _drawn_twice(labelled.annotations)
    if twice:
        said.append(f"{for_what}{twice} objects have the same box and class as another one: is an export doubled?")
    return said + [f"{for_what}{note}" for note in labelled.notes]
