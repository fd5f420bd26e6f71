"""Reading: a list of images as people have it, CSV, JSON lines or Parquet, with every cell as text."""

from __future__ import annotations

import codecs
import csv as text_csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.lists.columns import REFUSED
from selftrain.errors import SourceError

DELIMITERS = (",", ";", "\t")
_JSON_LINES, _PARQUET = (".jsonl", ".ndjson"), (".parquet", ".pq")
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_list(path: Path, *, option: str) -> pa.Table:
    """All columns of the list at `path` as strings, empty cells and NaN as null. `option` is how the user named it.

    A CSV may be separated by commas, semicolons or tabs, whatever its suffix. A list of one text counts as that text.
    A column whose cells hold several values, or neither text nor numbers, is null throughout; the metadata REFUSED of
    its field says why, for whoever needs it. Raises SourceError for a file that is missing, not a table, without rows,
    or with a column twice.
    """
    if not path.is_file():
        raise SourceError(f"{option}: {str(path)!r} is not a file (seen from {os.getcwd()!r}); correct the path")
    try:
        table = _read(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"{str(path)!r} cannot be read as a table: {first_line}"
        raise SourceError(f"{problem}; save it as UTF-8 CSV, JSON lines or Parquet") from error
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SourceError(f"{str(path)!r} has the column {twice!r} more than once; keep one of them")
    if table.num_rows == 0:
        raise SourceError(f"{str(path)!r} has no rows; list one image per row")
    columns, fields = [], []
    for name in names:
        problem = _problem(table[name], name)
        columns.append(pa.nulls(table.num_rows, pa.string()) if problem else _as_text(table[name]))
        fields.append(pa.field(name, pa.string(), metadata={REFUSED: problem} if problem else None))
    return pa.table(columns, schema=pa.schema(fields))


def _read(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix in _PARQUET:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        table.validate(full=True)  # checks that text is UTF-8: a damaged page may hold any bytes
        return table
    if suffix in _JSON_LINES:
        from pyarrow import json

        return json.read_json(path)
    return _read_csv(path)


def _read_csv(path: Path) -> pa.Table:
    from pyarrow import csv

    code = _code_of(path)
    with path.open(encoding=code, newline="") as file:
        header = file.readline()
    delimiter = max(DELIMITERS, key=lambda mark: len(next(text_csv.reader([header], delimiter=mark), [])))
    names = next(text_csv.reader([header], delimiter=delimiter), [])
    text = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(encoding="utf8" if code == "utf-8-sig" else code),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=text,
    )


def _code_of(path: Path) -> str:
    """How the characters of a text are written: UTF-8, or UTF-16 if it begins with that mark, as Excel saves it."""
    with path.open("rb") as file:
        start = file.read(2)
    return next((code for mark, code in _MARKS if start == mark), "utf-8-sig")


def _problem(column: pa.ChunkedArray, name: str) -> str:
    """Why `column` names nothing: it holds several values in a cell, or images, boxes and other records; else ""."""
    kind = column.type
    if _is_list(kind):
        several = pc.indices_nonzero(pc.fill_null(pc.greater(pc.list_value_length(column), 1), False)).to_pylist()
        if several:
            return (
                f"row {several[0] + 1} has several values of {name!r}; images with several labels need multi-label "
                "classification, which selftrain does not do: keep one label per image"
            )
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return (
            f"the column {name!r} holds {column.type} in each row, not text or a number; write the name of the class, "
            "or the path, into a column of its own"
        )
    return ""


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """`column` as strings. Whole numbers that are stored as floats lose their `.0`; a list is its only value."""
    kind = column.type
    if _is_list(kind):
        column, kind = _alone(column), kind.value_type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.equal(column, pc.floor(column))).as_py() in (True, None):
            column = column.cast(pa.int64())
    text = column.cast(pa.string())
    return pc.if_else(pc.fill_null(pc.equal(text, ""), False), pa.scalar(None, pa.string()), text)


def _alone(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The only value of each list; null for an empty one."""
    first = [(values or [None])[0] for values in column.to_pylist()]
    return pa.chunked_array([pa.array(first, column.type.value_type)])
