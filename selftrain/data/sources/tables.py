"""Table source: a CSV or Parquet list of images with path, label, split and group."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.rows import checked_listing, stop_at_rows, training_classes
from selftrain.data.sources.text_tables import read_text_table

_COLUMNS = ("path", "label", "split", "group")


@dataclass(frozen=True)
class TableImages:
    """Images named by the rows of a CSV or Parquet file; `label`, `split` and `group` may be missing or empty.

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
            "group": table["group"],
        }
        return checked_listing(pa.table(columns), row_name=row_name)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)


def _read_table(path: Path) -> pa.Table:
    """The columns path, label, split and group as strings, empty cells as null. Raises SourceError."""
    table = read_text_table(path, _COLUMNS, option="source.path", required="path")
    nothing = pc.indices_nonzero(pc.is_null(table["path"])).to_pylist()
    stop_at_rows(nothing, row_name=lambda row: f"row {row + 1}", problem="row without path", remedy="name the image")
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
