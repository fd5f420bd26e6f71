"""Invariants: what holds for every row of Annotations, checked for all rows at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data import columns
from selftrain.data.annotations.run_lengths import run_lengths
from selftrain.data.manifest import LabelSource
from selftrain.errors import ManifestError
from selftrain.naming import ROWS_NAMED, name_rows

Bools = npt.NDArray[np.bool_]

_MASKS_AT_ONCE = 1 << 15  # their runs take memory


def refuse_broken(table: pa.Table, *, classes: int) -> None:
    """Raise ManifestError for the first rule that rows of `table` break; it names up to five of them."""
    for rule, broken in _invariants(table, classes):
        rows = np.flatnonzero(broken)
        if len(rows):
            named = [_row_name(table, int(row)) for row in rows[:ROWS_NAMED]]
            raise ManifestError(f"{len(rows)} objects break the rule that {rule}: {name_rows(named, len(rows))}")


def _row_name(table: pa.Table, row: int) -> str:
    image, own = table.column("image_id")[row].as_py(), table.column("annotation_id")[row].as_py()
    return f"an object of {image[:60]!r}" + (f" (id {own})" if own is not None else "")


def _invariants(table: pa.Table, classes: int) -> Iterator[tuple[str, Bools]]:
    """Each rule in words, with a mask (rows,) of the rows that break it."""
    label = np.asarray(table.column("label"))
    source = columns.codes(table.column("source"), list(LabelSource))
    pseudo = source == list(LabelSource).index(LabelSource.PSEUDO)
    yield "its image has an id", columns.rows_where(table.column("image_id"), lambda name: not name)
    yield f"label is below {classes} classes", (label < 0) | (label >= classes)
    x0, y0, x1, y1 = (np.asarray(table.column(name)) for name in ("x0", "y0", "x1", "y1"))
    yield "its box is finite", np.asarray(~np.isfinite(np.stack([x0, y0, x1, y1], axis=1)).all(axis=1))
    yield "its box begins at 0 or later", (x0 < 0) | (y0 < 0)
    yield "its box has a width and a height", (x1 <= x0) | (y1 <= y0)
    yield f"source is one of {', '.join(LabelSource)}", source < 0
    yield "a pseudo-label has a score, and nothing else has one", _given(table, "score") != pseudo
    for name in ("teacher", "round"):
        yield f"only a pseudo-label has a {name}", _given(table, name) & ~pseudo
    score = np.asarray(pc.fill_null(table.column("score"), 0.0))
    yield "score is in 0-1", ~((score >= 0) & (score <= 1))
    yield "round is at least 0", np.asarray(pc.fill_null(table.column("round"), 0)) < 0
    yield "mask is COCO's compressed run lengths, and holds pixels", _bad_masks(table.column("mask"))


def _given(table: pa.Table, name: str) -> Bools:
    return np.asarray(pc.is_valid(table.column(name)))


def _bad_masks(column: pa.ChunkedArray) -> Bools:
    """(rows,) masks that are not run lengths, or that are empty; null is fine."""
    broken = np.zeros(len(column), bool)
    for start in range(0, len(column), _MASKS_AT_ONCE):
        block = column.slice(start, _MASKS_AT_ONCE)
        lengths = run_lengths(block)
        given = np.asarray(pc.is_valid(block))
        broken[start : start + len(block)] = lengths.bad | (given & (lengths.areas() == 0))
    return broken
