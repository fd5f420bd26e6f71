"""Text tables: CSV and Parquet files of a few known columns, read as text, with empty cells as null."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.errors import SourceError


def read_text_table(path: Path, columns: tuple[str, ...], *, option: str, required: str | None = None) -> pa.Table:
    """All `columns` of the file at `path`, as strings; a missing one is null. `option` is how the user named the file.

    Raises SourceError for a file that is missing, not a table or without rows, and for an unknown or repeated column,
    or none called `required`.
    """
    if not path.is_file():
        raise SourceError(f"{option}: {str(path)!r} is not a file (seen from {os.getcwd()!r}); correct the path")
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        table = _read_parquet(path, columns) if is_parquet else _read_csv(path, columns)
        table.validate(full=True)  # checks that text is UTF-8: a damaged Parquet page may hold any bytes
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"{str(path)!r} cannot be read as a table: {first_line}"
        raise SourceError(f"{problem}; save it as UTF-8 CSV or Parquet") from error
    _refuse_columns(path, table.column_names, columns)
    if required is not None and required not in table.column_names:
        raise SourceError(f"{str(path)!r} has no column {required!r}; allowed are {', '.join(columns)}")
    if table.num_rows == 0:
        raise SourceError(f"{str(path)!r} has no rows; list one image per row")
    missing = pa.nulls(table.num_rows, pa.string())
    return pa.table({name: table[name] if name in table.column_names else missing for name in columns})


def _refuse_columns(path: Path, found: list[str], columns: tuple[str, ...]) -> None:
    for name in found:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1, cutoff=0.0)[0]
            raise SourceError(
                f"{str(path)!r} has the unknown column {name!r}; did you mean {near!r}? Allowed: {', '.join(columns)}"
            )
        if found.count(name) > 1:
            raise SourceError(f"{str(path)!r} has the column {name!r} more than once; keep one of them")


def _read_csv(path: Path, columns: tuple[str, ...]) -> pa.Table:
    from pyarrow import csv

    text = csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True
    )
    return csv.read_csv(path, convert_options=text)


def _read_parquet(path: Path, columns: tuple[str, ...]) -> pa.Table:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for position, name in enumerate(table.column_names):
        if name in columns:
            column = table[name].cast(pa.string())
            empty = pc.fill_null(pc.equal(column, ""), False)
            table = table.set_column(position, name, pc.if_else(empty, pa.scalar(None, pa.string()), column))
    return table
