"""Rows of a source: what a run can be built on, and the errors that name the rows where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.errors import SourceError
from selftrain.naming import ROWS_NAMED, name_rows

SPLITS = ("train", "validation", "test", "unlabeled")


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
