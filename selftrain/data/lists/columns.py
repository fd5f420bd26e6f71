"""Columns: which column of a user's list names the image, its label, its split and its group."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.errors import SourceError
from selftrain.naming import name_rows

ROLES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image_path", "image", "img", "id"),
    "label": ("label", "labels", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "partition"),
    "group": ("group",),
}
"""What people call each column, the best name first. Letter case and spaces around a name do not matter."""
REFUSED = b"selftrain.refused"
"""In the metadata of a column's field: why it can be neither a path, nor a label, split or group."""
_NEAR = 0.7  # likeness from which an unknown column is taken for a misspelt one


@dataclass(frozen=True)
class Columns:
    """The column of each role, None where there is none; `one_hot` are class columns; `unused` are the others."""

    path: str
    label: str | None
    split: str | None
    group: str | None
    one_hot: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def columns_of(table: pa.Table, chosen: Mapping[str, str], *, name: str, labelled: bool = True) -> Columns:
    """The columns of the list `name`: as `chosen` (role -> column), or by the names that people use.

    Without a label column, columns of zeros and ones are classes (one-hot); unless `labelled`, no labels are looked
    for. Raises SourceError for a chosen column that is missing or that holds something else, no column of paths or of
    labels, and a name that looks misspelt.
    """
    names = table.column_names
    for role, column in chosen.items():
        if column not in names:
            raise SourceError(f"source.columns.{role}: {name} has no column {column!r}; it has {_named(names)}")
    found = {role: chosen.get(role) or by_name(names, aliases) for role, aliases in ROLES.items()}
    if not labelled:
        found["label"] = None
    _refuse_unfit(table, found, name)
    others = [column for column in names if column not in found.values()]
    for role in (role for role, column in found.items() if column is None and (labelled or role != "label")):
        near = difflib.get_close_matches(role, [other.strip().lower() for other in others], n=1, cutoff=_NEAR)
        if near:
            misspelt = next(other for other in others if other.strip().lower() == near[0])
            raise SourceError(
                f"{name} has the unknown column {misspelt!r}; did you mean {role!r}? Rename it, or say which column "
                f"is which: source.columns: {{{role}: ...}}"
            )
    path = found["path"]
    if path is None:
        raise SourceError(
            f"{name} has no column of paths; it has {_named(names)}. The first row must name the columns: "
            f"{', '.join(ROLES['path'][:4])}; or say which: source.columns: {{path: {names[0]}}}"
        )
    one_hot = tuple(_one_hot(table, others)) if labelled and found["label"] is None else ()
    unused = tuple(other for other in others if other not in one_hot)
    if labelled and found["label"] is None and not one_hot:
        raise SourceError(
            f"{name} has no column of labels; it has {_named(names)}. Call it 'label', or say which it is: "
            "source.columns: {label: ...}"
        )
    return Columns(path, found["label"], found["split"], found["group"], one_hot, unused)


def _refuse_unfit(table: pa.Table, found: Mapping[str, str | None], name: str) -> None:
    """Raise SourceError for the column of a role whose cells hold no text and no number, or several."""
    for column in (column for column in found.values() if column is not None):
        problem = (table.schema.field(column).metadata or {}).get(REFUSED)
        if problem is not None:
            raise SourceError(f"{name}: {problem.decode()}")


def labels_of(table: pa.Table, columns: Columns, *, name: str) -> pa.ChunkedArray:
    """The labels (rows,) as strings: of the label column, or the class whose column has the one.

    A row of zeros has no label. Raises SourceError for a row with several ones.
    """
    if columns.label is not None:
        return table[columns.label]
    if not columns.one_hot:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    ones = [pc.is_in(table[column], pa.array(_ONES)).to_numpy() for column in columns.one_hot]
    counts = sum(each.astype(int) for each in ones)
    several = [str(row + 1) for row in (counts > 1).nonzero()[0].tolist()]
    if several:
        raise SourceError(
            f"{name}: rows with several classes: {name_rows(several)}; images with several labels need multi-label "
            "classification, which selftrain does not do: keep one class per image"
        )
    labels: list[str | None] = [None] * table.num_rows
    for column, rows in zip(columns.one_hot, ones, strict=True):
        for row in rows.nonzero()[0].tolist():
            labels[row] = column.strip()
    return pa.chunked_array([pa.array(labels, pa.string())])


_ONES, _ZEROS = ("1", "1.0", "True", "true"), ("0", "0.0", "False", "false")


def _one_hot(table: pa.Table, others: Sequence[str]) -> list[str]:
    """Those of `others` that hold zeros and ones alone, if there are two or more."""
    marks = pa.array([*_ONES, *_ZEROS])
    found = [
        column
        for column in others
        if table[column].null_count < table.num_rows and pc.all(pc.is_in(table[column].drop_null(), marks)).as_py()
    ]
    return found if len(found) > 1 else []


def by_name(names: Sequence[str], aliases: Sequence[str]) -> str | None:
    """The first of `names` that is one of `aliases`, the best alias first; None where there is none."""
    plain = {column.strip().lower(): column for column in reversed(names)}
    return next((plain[alias] for alias in aliases if alias in plain), None)


def _named(names: Sequence[str]) -> str:
    return ", ".join(repr(each) for each in names[:12]) + (" ..." if len(names) > 12 else "")
