"""Rows of a source: a listing that a run can be built on, or an error that names the rows at fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.lists.labels import refuse_bytes, refuse_two_spellings
from selftrain.data.sources.listing import Listing
from selftrain.errors import SourceError
from selftrain.naming import ROWS_NAMED, name_rows

CLASSES_NAMED = 20
_MASK = re.compile(r"(.+)[ _.-](?:masks?|seg|segmentation|gt|groundtruth|ground_truth)(?:[ _-]?\d+)?", re.IGNORECASE)
_OF_MASKS = ("mask", "masks", "segmentation", "segmentations", "annotations", "groundtruth", "ground_truth")
SPLITS = ("train", "validation", "test", "unlabeled")


def training_classes(table: pa.Table) -> tuple[str, ...]:
    """The sorted labels of the rows that are, or may become, training images."""
    training = pc.or_(pc.is_null(table["split"]), pc.fill_null(pc.equal(table["split"], "train"), False))
    labels = table["label"].filter(training).drop_null().unique().to_pylist()
    return tuple(sorted(labels))


def described(listing: Listing) -> tuple[str, ...]:
    """What a run should say before it begins: the images of each class, those without label, and the notes."""
    counted = listing.table["label"].drop_null().value_counts().to_pylist()
    counts = sorted(((str(each["values"]), int(each["counts"])) for each in counted), key=lambda item: -item[1])
    named = ", ".join(f"{name} {count}" for name, count in counts[:CLASSES_NAMED])
    more = f" and {len(counts) - CLASSES_NAMED} more" if len(counts) > CLASSES_NAMED else ""
    without = f"{listing.table['label'].null_count} images without label"
    classes = "1 class" if len(counts) == 1 else f"{len(counts)} classes"
    return (f"{classes}: {named}{more}; {without}", *listing.notes)


def checked_listing(
    table: pa.Table,
    *,
    ignored: int = 0,
    row_name: Callable[[int], str] | None = None,
    notes: tuple[str, ...] = (),
) -> Listing:
    """The Listing of `table` (LISTING_SCHEMA), whose labels and splits fit together.

    `row_name(row)` is what the user calls a row of `table`; None: its path. Raises SourceError naming the rows:

    - an unknown split
    - a labelled split without a label, or a label in split unlabeled
    - a class without training images
    - a path that is listed twice

    It also raises SourceError for two spellings of one class, and for a label that is not text.
    """
    listing = Listing.build(table, ignored=ignored, notes=(*notes, *_masks_noted(table)))
    names = listing.table["label"].drop_null().unique().to_pylist()
    refuse_bytes(names)
    refuse_two_spellings(names)
    if row_name is None:
        _check_rows(listing.table, row_name=lambda row: repr(listing.table["path"][row].as_py()))
    else:
        _check_rows(table, row_name=row_name)
    return listing


def _masks_noted(table: pa.Table) -> list[str]:
    """What is said of files that may be masks of other images: `x_mask.png` beside `x.png`, or a class of masks."""
    stems = {path.rpartition(".")[0] for path in table["path"].to_pylist()}
    masks = [stem for stem in stems if (found := _MASK.fullmatch(stem)) and found[1] in stems]
    said = []
    if masks:
        said.append(
            f"{len(masks)} images are named like masks of others beside them, such as {min(masks)!r}: they are used as "
            "images; move them away if they are masks"
        )
    classes = [name for name in table["label"].drop_null().unique().to_pylist() if name.lower() in _OF_MASKS]
    if classes:
        said.append(f"the class {name_rows(classes)} is named as folders of masks are: is it a class?")
    return said


def _check_rows(table: pa.Table, *, row_name: Callable[[int], str]) -> None:
    def stop_at(bad: pa.ChunkedArray, problem: str, remedy: str) -> None:
        rows = pc.indices_nonzero(pc.fill_null(bad, False)).to_pylist()
        stop_at_rows(rows, row_name=row_name, problem=problem, remedy=remedy)

    label, split = table["label"], table["split"]
    known = pc.or_(pc.is_null(split), pc.is_in(split, pa.array(SPLITS)))
    stop_at(pc.invert(known), "unknown split", f"allowed are {', '.join(SPLITS)}, or none: selftrain chooses one")
    unlabeled = pc.fill_null(pc.equal(split, "unlabeled"), False)
    labeled_split = pc.and_(pc.is_valid(split), pc.invert(unlabeled))
    missing = pc.and_(pc.is_null(label), labeled_split)
    stop_at(missing, "image without label in a labelled split", "add its label, or put it into split unlabeled")
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
