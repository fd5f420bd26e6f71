"""Tables of objects: what `selftrain predict --out` writes for a detector, as CSV, Parquet or COCO JSON."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.detect_files import quarantine_of, write_quarantine
from selftrain.autolabeling.folders.found_objects import BATCH, error_of, lowest_scores
from selftrain.autolabeling.folders.object_parts import found_in_parts
from selftrain.autolabeling.folders.predictions import alone, parts_of
from selftrain.autolabeling.folders.sources import ListedSources, common_folder, name_below
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco
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
    """What `write_objects` wrote: `errors` of the `images` could not be read; the `thresholds` that were used.

    `found` of the images were looked at by a command before, which was killed.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    out: Path
    model_version: str
    images: int
    found: int = 0
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
    table = quarantine_of(out)
    continued = parts_of(out).is_dir()  # killed between the two files: the table is its own
    for path in (out, *([table] if out.suffix.lower() == ".json" and not continued else [])):
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
    flips: bool = False,
    progress: Progress = silent,
) -> ObjectTableSummary:
    """Find the objects of every image of `sources` and write them to `out`, in the format that its name says.

    `.csv` and `.parquet` hold SCHEMA: x and y of the upper left corner, width and height, in pixels of the image as it
    is displayed. `.json` is COCO, with a score per object and outlines where the detector knows them; a table beside it
    lists files that cannot be read. `called` is the model's name in the table. `flips` averages
    over mirrored views. The file is written whole or not at all.
    Finished parts lie in a hidden folder beside it until then, and a command that was killed continues with them.
    Raises ConfigError where another process writes `out`.
    """
    lowest, names = lowest_scores(saved.contract, threshold), saved.contract.class_names
    with alone(out) as folder:
        every, before = found_in_parts(
            *(saved, sources, lowest, folder), batch_size=batch_size, flips=flips, progress=progress
        )
        read = [each for each in every if not isinstance(each, Unread)]
        unread = [each for each in every if isinstance(each, Unread)]
        root, quarantine = None, None
        if out.suffix.lower() == ".json":
            there = [each.path for each in sources.images if each.error is None]
            root = common_folder(there or [each.path for each in sources.images])
            if unread:
                quarantine = quarantine_of(out)
                write_quarantine(quarantine, [(each.path, each.reason, each.detail) for each in unread])
            below = [dataclasses.replace(each, name=name_below(each.name, root)) for each in read]
            write_coco(out, below, names, teacher=saved.contract.identity)
        else:
            table = pa.concat_tables([_rows(each, names, called) for each in every])
            replace(out, partial(_write, table, out.suffix.lower()))
        shutil.rmtree(folder)
    return ObjectTableSummary(
        out=out,
        model_version=called,
        images=len(sources.images),
        found=before,
        errors=len(unread),
        without_objects=sum(not each.boxes for each in read),
        objects=sum(len(each.boxes) for each in read),
        thresholds=lowest,
        quarantine=quarantine,
        root=root,
    )


def _rows(each: FoundObjects | Unread, names: Sequence[str], called: str) -> pa.Table:
    """The rows of one image."""
    found: list[tuple[object, ...]] = []
    path, error = (each.path, error_of(each)) if isinstance(each, Unread) else (each.name, None)
    if isinstance(each, FoundObjects):
        for (x0, y0, x1, y1), label, score in zip(each.boxes, each.classes, each.scores, strict=True):
            found.append((names[label], score, x0, y0, x1 - x0, y1 - y0))
    found = found or [(None,) * 6]
    columns = {
        "path": [path] * len(found),
        **dict(zip(("label", "score", "x", "y", "width", "height"), zip(*found, strict=True), strict=True)),
        "error": [error] * len(found),
        "model_version": [called] * len(found),
    }
    return pa.table({name: list(values) for name, values in columns.items()}, schema=SCHEMA)


def _write(table: pa.Table, suffix: str, file: Path) -> None:
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
