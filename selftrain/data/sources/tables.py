"""Table source: a CSV or Parquet list of images with path, label and split."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.rows import checked_listing, stop_at_rows, training_classes
from selftrain.errors import SourceError

_COLUMNS = ("path", "label", "split")


@dataclass(frozen=True)
class TableImages:
    """Images named by the rows of a CSV or Parquet file; `label` and `split` may be missing or empty.

    Paths are relative to `root` (by default the table's own folder) or absolute. They may not leave it, because a list
    from elsewhere must not reach into other folders. `root: /` allows the whole machine. Rows are counted from 1,
    without the header of a CSV.
    """

    settings: config.TableSource
    on_disk: bool = True

    @property
    def root(self) -> str:
        if self.settings.root is not None:
            return os.path.normpath(os.path.expanduser(self.settings.root))
        return os.path.dirname(os.path.expanduser(self.settings.path)) or "."

    def scan(self) -> Listing:
        table = _read_table(Path(self.settings.path).expanduser())
        written: list[str] = table["path"].to_pylist()

        def row_name(row: int) -> str:
            return f"row {row + 1} ({written[row]!r})"

        inside = [_inside(self.root, path) for path in written]
        stop_at_rows(
            [row for row, path in enumerate(inside) if path is None],
            row_name=row_name,
            problem=f"path outside {self.root!r}",
            remedy="move the image there, or set source.root to a folder that holds all images",
        )
        paths = [path or "" for path in inside]
        stats = [_stat(path) for path in paths]
        stop_at_rows(
            [row for row, stat in enumerate(stats) if stat is None],
            row_name=row_name,
            problem="row without an image file",
            remedy=f"paths start from {self.root!r}; correct the paths or remove the rows",
        )
        columns = {
            "path": pa.array(paths, pa.string()),
            "label": table["label"],
            "split": table["split"],
            "size": pa.array([stat[0] for stat in stats if stat], pa.int64()),
            "mtime_ns": pa.array([stat[1] for stat in stats if stat], pa.int64()),
        }
        return checked_listing(pa.table(columns), row_name=row_name)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)


def _read_table(path: Path) -> pa.Table:
    """The columns path, label and split as strings, empty cells as null. Raises SourceError."""
    if not path.is_file():
        raise SourceError(f"source.path: {str(path)!r} is not a file (seen from {os.getcwd()!r}); correct the path")
    try:
        table = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
        table.validate(full=True)  # checks that text is UTF-8: a damaged Parquet page may hold any bytes
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"{str(path)!r} cannot be read as a table: {first_line}"
        raise SourceError(f"{problem}; save it as UTF-8 CSV or Parquet") from error
    for name in table.column_names:
        if name not in _COLUMNS:
            near = difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=0.0)[0]
            raise SourceError(
                f"{str(path)!r} has the unknown column {name!r}; did you mean {near!r}? Allowed: {', '.join(_COLUMNS)}"
            )
        if table.column_names.count(name) > 1:
            raise SourceError(f"{str(path)!r} has the column {name!r} more than once; keep one of them")
    if "path" not in table.column_names:
        raise SourceError(f"{str(path)!r} has no column 'path'; allowed are {', '.join(_COLUMNS)}")
    if table.num_rows == 0:
        raise SourceError(f"{str(path)!r} has no rows; list one image per row")
    missing = pa.nulls(table.num_rows, pa.string())
    text = {name: table[name] if name in table.column_names else missing for name in _COLUMNS}
    nothing = pc.indices_nonzero(pc.is_null(text["path"])).to_pylist()
    stop_at_rows(nothing, row_name=lambda row: f"row {row + 1}", problem="row without path", remedy="name the image")
    return pa.table(text)


def _read_csv(path: Path) -> pa.Table:
    from pyarrow import csv

    text = csv.ConvertOptions(
        column_types=dict.fromkeys(_COLUMNS, pa.string()), null_values=[""], strings_can_be_null=True
    )
    return csv.read_csv(path, convert_options=text)


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for position, name in enumerate(table.column_names):
        if name in _COLUMNS:
            column = table[name].cast(pa.string())
            empty = pc.fill_null(pc.equal(column, ""), False)
            table = table.set_column(position, name, pc.if_else(empty, pa.scalar(None, pa.string()), column))
    return table


def _inside(root: str, path: str) -> str | None:
    """`path` joined to `root`, without `..`; None if it leaves `root`. A link in `root` may lead anywhere."""
    joined = os.path.normpath(os.path.join(root, path))
    top, full = os.path.abspath(root), os.path.abspath(joined)
    return joined if os.path.commonpath([top, full]) == top else None


def _stat(path: str) -> tuple[int, int] | None:
    """Size in bytes and time in nanoseconds of the file at `path`; None if it is missing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_size, status.st_mtime_ns) if os.path.isfile(path) else None
