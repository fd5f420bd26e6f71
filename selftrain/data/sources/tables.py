"""Table source: a list of images with path, label, split and group, as CSV, JSON lines or Parquet."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.images.openers import image_bytes
from selftrain.data.lists.columns import columns_of, labels_of
from selftrain.data.lists.labels import NOTHING, refuse_several, tidied, without_marks
from selftrain.data.lists.reading import read_list
from selftrain.data.sources.listing import Listing, endings_of
from selftrain.data.sources.rows import checked_listing, stop_at_rows, training_classes
from selftrain.errors import SourceError

_WRITTEN_BY = {
    "pseudo-label": {"path", "class", "confidence", "accepted"},
    "predict": {"path", "label", "confidence", "probabilities", "model_version"},
}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SPLITS = {
    **dict.fromkeys(("training",), "train"),
    **dict.fromkeys(("val", "valid", "dev"), "validation"),
    **dict.fromkeys(("testing",), "test"),
    **dict.fromkeys(("unlabelled", "unsup"), "unlabeled"),
}


@dataclass(frozen=True)
class TableImages:
    """Images named by the rows of a list; `label`, `split` and `group` may be missing or empty.

    Columns are known by the names that people use (`lists.columns`), or by `settings.columns`. Paths are relative to
    `root` (by default the table's own folder) or absolute. They may not leave it, because a list from elsewhere must
    not reach into other folders. `root: /` allows the whole machine. Rows are counted from 1, without a CSV's header.
    """

    settings: config.TableSource
    on_disk: bool = True
    labelled: bool = True  # else labels are not looked for

    @property
    def root(self) -> str:
        if self.settings.root is not None:
            return os.path.normpath(os.path.expanduser(self.settings.root))
        return os.path.dirname(os.path.expanduser(self.settings.path)) or "."

    def scan(self) -> Listing:
        table, notes = _read_table(self.settings, labelled=self.labelled)
        written: list[str] = table["path"].to_pylist()

        def row_name(row: int) -> str:
            return f"row {row + 1} ({written[row]!r})"

        stop_at_rows(
            [row for row, path in enumerate(written) if _ADDRESS.match(path)],
            row_name=row_name,
            problem="the address of an image on a server, where a file is expected",
            remedy="download the images and name the files: a list reads files of this machine, and a bucket is a "
            "source of its own (`selftrain init --labeled s3://...`)",
        )
        inside = [_inside(self.root, _portable(self.root, path)) for path in written]
        stop_at_rows(
            [row for row, path in enumerate(inside) if path is None],
            row_name=row_name,
            problem=f"path outside {self.root!r}",
            remedy="move the image there, or set source.root to a folder that holds all images",
        )
        paths = _with_endings([path or "" for path in inside])
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
        return checked_listing(pa.table(columns), row_name=row_name, notes=notes)

    def read(self, path: str) -> bytes:
        return image_bytes(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return training_classes(listing.table)


def _read_table(settings: config.TableSource, *, labelled: bool) -> tuple[pa.Table, tuple[str, ...]]:
    """The columns path, label, split and group as strings, empty cells as null, and what was decided on the way.

    Raises SourceError.
    """
    path = Path(settings.path).expanduser()
    table, name = read_list(path, option="source.path"), repr(str(path))
    if labelled and "label" not in settings.columns:
        _refuse_answers(table, name)
    columns = columns_of(
        table, {str(role): column for role, column in settings.columns.items()}, name=name, labelled=labelled
    )
    labels, marked = without_marks(labels_of(table, columns, name=name), settings.no_label)
    labels = tidied(labels)
    refuse_several(labels)
    nothing = pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    chosen = pa.table(
        {
            "path": table[columns.path],
            "label": labels,
            "split": _splits(table[columns.split]) if columns.split else nothing,
            "group": _groups(table[columns.group]) if columns.group else nothing,
        }
    )
    empty = pc.indices_nonzero(pc.is_null(chosen["path"])).to_pylist()
    stop_at_rows(empty, row_name=lambda row: f"row {row + 1}", problem="row without path", remedy="name the image")
    unused = ", ".join(map(repr, columns.unused))
    return chosen, tuple(note for note in (marked, f"columns not used: {unused}" if unused else "") if note)


def _refuse_answers(table: pa.Table, name: str) -> None:
    """Raise SourceError for a table that one of our commands wrote: its labels are what a model answered."""
    command = next((each for each, columns in _WRITTEN_BY.items() if columns <= set(table.column_names)), None)
    if command is not None:
        raise SourceError(
            f"{name} was written by `selftrain {command}`: its labels are answers of a model, and a run would learn "
            "from them, and be judged by them, as if people had given them. Give these images without labels: a run "
            "makes pseudo-labels itself. Where people have checked them, keep the columns of path and label alone"
        )


def _splits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The splits by our names, where they have another usual one."""
    plain = [None if value is None else value.strip().lower() for value in column.to_pylist()]
    return pa.chunked_array([pa.array([_SPLITS.get(value, value) if value else None for value in plain], pa.string())])


def _groups(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The groups; null where a program wrote its mark of a missing value, which would join all these images in one."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    return pc.if_else(pc.is_in(plain, pa.array(NOTHING)), pa.scalar(None, pa.string()), column)


def _with_endings(paths: list[str]) -> list[str]:
    """`paths`, completed where a list names files without their ending, as `id` columns do.

    Raises SourceError for a name that several images in its folder begin with.
    """
    endings: dict[str, dict[str, list[str]]] = {}
    for row, path in enumerate(paths):
        folder, stem = os.path.split(path)
        if os.path.exists(path) or not os.path.isdir(folder or "."):
            continue
        if folder not in endings:
            endings[folder] = endings_of(folder or ".")
        found = endings[folder].get(stem, [])
        if len(found) > 1:
            raise SourceError(
                f"row {row + 1}: {path!r} is a file name without ending, and {', '.join(map(repr, found))} all fit; "
                "write the ending"
            )
        if found:
            paths[row] = os.path.join(folder, found[0])
    return paths


def _portable(root: str, path: str) -> str:
    """`path` with slashes for backslashes, if it is a list from Windows: only then is there such a file."""
    turned = path.replace("\\", "/")
    if turned == path or os.path.exists(os.path.join(root, path)) or not os.path.exists(os.path.join(root, turned)):
        return path
    return turned


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
