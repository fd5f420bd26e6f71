"""COCO source: images whose objects are listed in a COCO file, and a folder of images without labels.

A manifest has one label an image, and a detector's image has many. So the manifest's label is a *stratum*: the rarest
class in the image. Splits then spread rare classes evenly. The objects themselves go into the annotations table.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from selftrain import config
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import LISTING_SCHEMA, OPTIONAL_SCHEMA, Listing, find_images
from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.data.sources.rows import checked_listing, training_classes
from selftrain.errors import SourceError
from selftrain.naming import name_rows

WITH, WITHOUT = "images with {}", "images without objects"
FEWEST = 10
"""Images of a stratum of its own; those of a smaller one go to the largest, so that every split can get some."""
MOST_UNEVEN = 10
"""How many times smaller than the largest a stratum of its own may be: validation stops at 20."""
FEWEST_HELD_OUT = 2
"""Images of each stratum in a file for validation or test; where it has fewer, all images are one stratum."""


@dataclass(frozen=True)
class CocoImages:
    """The images of a CocoSource; the label of each is its stratum."""

    settings: config.CocoSource
    on_disk: bool = True

    def scan(self) -> Listing:
        """See `ImageSource.scan`. The COCO files are read in full, since a wrong one must stop a run at once."""
        strata = _strata([each for _, each in self.labelled])
        notes: list[str] = []
        tables, seen = [], set[str]()
        for (split, labelled), names in zip(self.labelled, strata, strict=True):
            paths = labelled.images["path"].to_pylist()
            tables.append(_rows(paths, labels=names, split=split, groups=labelled.images["group"].to_pylist()))
            seen |= set(map(os.path.realpath, paths))
            notes += _notes(labelled, split)
        ignored = 0
        if self.settings.unlabeled is not None:
            found = find_images(_folder(self.settings.unlabeled))
            ignored = found.ignored
            pool = [path for path in found.paths if os.path.realpath(path) not in seen]
            tables.append(_rows(pool, labels=[None] * len(pool), split="unlabeled", groups=[None] * len(pool)))
            if len(pool) < len(found.paths):
                notes.append(f"{len(found.paths) - len(pool)} images of {self.settings.unlabeled!r} are labelled ones")
        return checked_listing(pa.concat_tables(tables), ignored=ignored, notes=tuple(notes))

    def read(self, path: str) -> bytes:
        """The file at `path`."""
        return Path(path).read_bytes()

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        """The strata. The classes are those of the annotations."""
        return training_classes(listing.table)

    @cached_property
    def labelled(self) -> tuple[tuple[str | None, LabelledImages], ...]:
        """The images and objects of each COCO file, and the split that it is for; None: selftrain splits it.

        Raises SourceError for a file that contradicts itself, the others or its images.
        """
        s = self.settings
        named = ((None, s.annotations), ("validation", s.validation), ("test", s.test))
        files = [(split, Path(path).expanduser()) for split, path in named if path is not None]
        first = read_coco(files[0][1], images=_folder(s.images), classes=s.classes)
        names = first.label_map.names
        others = [
            (split, read_coco(path, images=_folder(s.images), classes=names, split=split)) for split, path in files[1:]
        ]
        return ((None, first), *others)

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


def _strata(files: list[LabelledImages]) -> list[list[str]]:
    """For each image of each file: the class of it that is rarest in all files, or that it holds none."""
    counts: Counter[int] = Counter()
    for each in files:
        counts.update(each.annotations.labels.tolist())
    named = []
    for each in files:
        first, count = each.annotations.spans(each.images["name"])
        of_images = [each.annotations.labels[start : start + many] for start, many in zip(first, count, strict=True)]
        names = each.label_map.names
        rarest = [min(set(own.tolist()), key=lambda label: (counts[label], label), default=None) for own in of_images]
        named.append([WITHOUT if label is None else WITH.format(names[label]) for label in rarest])
    sizes = Counter(named[0])
    largest = max(sizes, key=lambda name: (sizes[name], name), default=WITHOUT)
    least = max(FEWEST, sizes[largest] / MOST_UNEVEN)
    own = {name for name, size in sizes.items() if size >= least} | {largest}
    merged = [[name if name in own else largest for name in each] for each in named]
    if any(Counter(each)[name] < FEWEST_HELD_OUT for each in merged[1:] for name in own):
        return [[largest] * len(each) for each in merged]  # a file of its own is drawn by nobody, and lacks some
    return merged


def _rows(paths: list[str], *, labels: list[str] | list[None], split: str | None, groups: list[str | None]) -> pa.Table:
    states = [os.stat(path) for path in paths]
    columns = {
        "path": paths,
        "label": labels,
        "split": [split] * len(paths),
        "size": [each.st_size for each in states],
        "mtime_ns": [each.st_mtime_ns for each in states],
        "group": groups,
    }
    return pa.table(columns, schema=pa.schema([*LISTING_SCHEMA, OPTIONAL_SCHEMA.field("group")]))


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
    if labelled.without_objects:
        said.append(
            f"{for_what}{labelled.without_objects} of {len(labelled.images)} images have no object: they teach what is "
            "none. Take them out of the file if nobody looked at them"
        )
    said += [f"{for_what}{count} objects left out, {why}" for why, count in labelled.left_out.items() if count]
    unused = [name for name, count in zip(labelled.label_map.names, objects, strict=True) if not count]
    if unused:
        said.append(f"{for_what}no object of {name_rows(unused)}: nothing of it can be learned")
    twice = _drawn_twice(labelled.annotations)
    if twice:
        said.append(f"{for_what}{twice} objects have the same box and class as another one: is an export doubled?")
    return said + [f"{for_what}{note}" for note in labelled.notes]
