"""Tables of objects: what `selftrain predict --out` writes for a detector, as CSV, Parquet or COCO JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.detect_files import found_in, quarantine_of, write_quarantine
from selftrain.autolabeling.folders.found_objects import BATCH, Found, answer_of, find_objects, lowest_scores
from selftrain.autolabeling.folders.sources import ListedSources, common_folder, name_below
from selftrain.data.sources.objects.coco_writing import write_coco
from selftrain.errors import ConfigError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models.predict_files import Unread
from selftrain.progress import Progress, silent

SCHEMA: Final = pa.schema(
    {
        "path": pa.string(),
        "label": pa.string(),
        "score": pa.float32(),
        **{side: pa.float32() for side in ("x", "y", "width", "height")},
        "error": pa.string(),
        "model_version": pa.string(),
    }
)
"""A row per object; an image without objects, or one that cannot be read, has one row without a label."""

FORMATS: Final = (".json", ".csv", ".parquet")


class ObjectTableSummary(BaseModel):
    """What `write_objects` wrote: `errors` of the `images` could not be read; the `thresholds` that were used."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    out: Path
    model_version: str
    images: int
    errors: int
    without_objects: int
    objects: int
    thresholds: dict[str, float]
    quarantine: Path | None = None
    root: str | None = None
    """The folder below which COCO's file names are; None where they are whole paths, and for tables."""


def check_object_table(out: Path) -> None:
    """Raise ConfigError unless `out` can be written: a new file whose name says its format."""
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: a detector's boxes are written as {', '.join(FORMATS)}; give such a name")
    for path in (out, *([quarantine_of(out)] if out.suffix.lower() == ".json" else [])):
        if path.exists():
            raise ConfigError(f"{path} exists, and was left as it is; give another name as --out")
    check_folder(out.parent, option="--out")


def write_objects(
    saved: SavedDetector,
    sources: ListedSources,
    out: Path,
    *,
    called: str,
    threshold: float | None = None,
    batch_size: int = BATCH,
    progress: Progress = silent,
) -> ObjectTableSummary:
    """Find the objects of every image of `sources` and write them to `out`, in the format that its name says.

    `.csv` and `.parquet` hold SCHEMA: x and y of the upper left corner, width and height, in pixels of the image as it
    is displayed. `.json` is COCO, with a score per object and outlines where the detector knows them; a table beside it
    lists files that cannot be read. `called` is the model's name in the table. The file is written whole or not at all.
    """
    lowest = lowest_scores(saved.contract, threshold)
    found = find_objects(
        saved, sources.images, lowest, threads=sources.threads, batch_size=batch_size, progress=progress
    )
    names = saved.contract.class_names
    root, quarantine = None, None
    if out.suffix.lower() == ".json":
        there = [each.path for each in sources.images if each.error is None]
        root = common_folder(there or [each.path for each in sources.images])
        rows, unread = [], []
        for each in found:
            if isinstance(each, Unread):
                unread.append((each.path, each.reason, each.detail))
            else:
                rows.append(found_in(name_below(each.path, root), each))
        objects, errors = write_coco(out, rows, names, teacher=saved.contract.identity), len(unread)
        empty = sum(not each.boxes for each in rows)
        if unread:
            quarantine = quarantine_of(out)
            write_quarantine(quarantine, unread)
    else:
        table = pa.concat_tables([_rows(each, names, called) for each in found])
        replace(out, partial(_write, table, out.suffix.lower()))
        errors = len(table) - table["error"].null_count
        objects = len(table) - table["label"].null_count
        empty = table["label"].null_count - errors
    return ObjectTableSummary(
        out=out,
        model_version=called,
        images=len(sources.images),
        errors=errors,
        without_objects=empty,
        objects=objects,
        thresholds=lowest,
        quarantine=quarantine,
        root=root,
    )


def _rows(each: Found | Unread, names: Sequence[str], called: str) -> pa.Table:
    """The rows of one image."""
    answer = answer_of(each, names)
    boxes = answer.boxes or ((None,) * 4,)
    count = len(boxes)
    columns = {
        "path": [each.path] * count,
        "label": answer.labels or [None],
        "score": answer.scores or [None],
        **dict(zip(("x", "y", "width", "height"), zip(*boxes, strict=True), strict=True)),
        "error": [answer.error] * count,
        "model_version": [called] * count,
    }
    return pa.table({name: list(values) for name, values in columns.items()}, schema=SCHEMA)


def _write(table: pa.Table, suffix: str, file: Path) -> None:
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
