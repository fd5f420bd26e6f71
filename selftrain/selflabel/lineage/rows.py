"""Label rows: pseudo-labels as flat tables, one row per image and round, with their teacher and the reason.

They are read from files of pseudo-labels, one group of rows at a time and without a Python object per row. Memory holds
one group, and the ids and origins of the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.data.columns import fixed_width
from selftrain.errors import ConfigError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.selflabel.lineage.descent import Trust
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

_TEXT_SET = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("origin", pa.string()),
        pa.field("run", _TEXT_SET),
        pa.field("round", pa.int16()),
        pa.field("teacher", _TEXT_SET),
        pa.field("version", _TEXT_SET),
        pa.field("trust", _TEXT_SET),
        pa.field("class", _TEXT_SET),
        pa.field("confidence", pa.float32()),
        pa.field("threshold", _TEXT_SET),
        pa.field("cutoff", pa.float32()),
        pa.field("accepted", pa.bool_()),
        pa.field("reason", pa.string()),
        pa.field("weight", pa.float32()),
    ]
)
ORIGIN_COLUMNS = ["image_id", "origin"]
"""The columns of a manifest that say where the user keeps its images."""
AFTER_HEX = "g"
"""A character that sorts after every hexadecimal digit."""


class LabelRow(BaseModel):
    """One teacher's answer for one image; `cutoff` is the lowest confidence at which the predicted class passed.

    `version` holds the addresses of the teacher's model in the registry, or None if it is not there.
    """

    model_config = ConfigDict(frozen=True)

    image_id: str
    origin: str | None
    run: str
    round: int
    teacher: str
    version: str | None
    trust: Trust
    predicted: str
    confidence: float
    probabilities: dict[str, float]
    threshold: str
    cutoff: float
    accepted: bool
    reason: str
    weight: float


@dataclass(frozen=True)
class RoundLabels:
    """One round's pseudo-labels: the run that made them, their facts without rows, and their teacher's trust today."""

    run: str
    facts: PseudoLabels
    version: str | None = None
    trust: Trust = Trust.TRUSTED


def open_labels(file: IO[bytes]) -> pq.ParquetFile:
    """The table in `file`, an open file of any store. It is read in the calling thread.

    Arrow's own threads would hold Python objects. A command that ends while those threads release them is aborted.
    """
    return pq.ParquetFile(file, pre_buffer=False)


def head(file: pq.ParquetFile, path: object) -> PseudoLabels:
    """The facts of the pseudo-labels in `file`, without rows.

    Raises PredictionError, which names `path`, for any other table.
    """
    return PseudoLabels.of(file.schema_arrow.empty_table(), path)


def matching_ids(file: pq.ParquetFile, prefix: str) -> pa.ChunkedArray:
    """The image_ids that begin with `prefix` in `file`, a manifest or pseudo-labels."""
    chunks = [chunk for _, table in _groups(file, ["image_id"], prefix) for chunk in table["image_id"].chunks]
    return pa.chunked_array(chunks, pa.string())


def rows(
    source: RoundLabels, labels: pq.ParquetFile, manifest: pq.ParquetFile | None = None, *, prefix: str = ""
) -> Iterator[pa.Table]:
    """The rows of `labels` whose image_id begins with `prefix`: SCHEMA and one column `p_<class>` per class.

    `labels` holds the rows of `source`, and `manifest` holds the origins of their images.
    """
    origins = _origins(manifest, prefix)
    for group, ids in _groups(labels, ["image_id"], prefix):
        if ids.num_rows:
            table = labels.read_row_group(group, use_threads=False)
            yield _flat(source, table.filter(_begins(table, prefix)) if prefix else table, origins)


def values(table: pa.Table) -> list[LabelRow]:
    """Each row of a table from `rows`, as a value."""
    classes = [name for name in table.column_names if name.startswith("p_")]
    return [
        LabelRow(**row, predicted=row["class"], probabilities={name[2:]: row[name] for name in classes})
        for row in table.to_pylist()
    ]


def class_counts(labels: pq.ParquetFile, *, classes: int) -> npt.NDArray[np.int64]:
    """The number of labels per class, and of accepted ones among them: int64 (classes, 2)."""
    counts = np.zeros((classes, 2), np.int64)
    for batch in labels.iter_batches(columns=["label", "accepted"], use_threads=False):
        label = np.asarray(batch.column("label"))
        accepted = batch.column("accepted").to_numpy(zero_copy_only=False).astype(bool)
        counts[:, 0] += np.bincount(label, minlength=classes)
        counts[:, 1] += np.bincount(label[accepted], minlength=classes)
    return counts


def check_label_file(out: Path) -> None:
    """Raise ConfigError unless `out` is a new .parquet or .csv file in a folder that can be written to."""
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out} is not a table; name a new .parquet or .csv file")
    if out.exists():
        raise ConfigError(f"{out} exists and was left unchanged; give another --out")
    check_folder(out.parent, option="--out")


def write_rows(tables: Iterable[pa.Table], out: Path, *, class_names: Sequence[str]) -> int:
    """Write the `tables` from `rows` to `out` (.parquet or .csv), whole or not at all; returns the row count.

    `class_names` are the classes of all rounds. A class that a round's model lacks has null probabilities.
    """
    schema = pa.schema([*SCHEMA, *(pa.field(f"p_{name}", pa.float32()) for name in class_names)])
    if out.suffix == ".csv":
        schema = pa.schema([(field.name, _plain(field.type)) for field in schema])
    count = 0

    def write(part: Path) -> None:
        nonlocal count
        writer_of = pyarrow.csv.CSVWriter if out.suffix == ".csv" else pq.ParquetWriter
        with writer_of(part, schema) as writer:
            for table in tables:
                writer.write_table(_conformed(table, schema))
                count += table.num_rows

    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, write)
    return count


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    names, count = set(table.column_names), table.num_rows
    columns = [
        table[field.name].cast(field.type) if field.name in names else pa.nulls(count, field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)


def _groups(file: pq.ParquetFile, columns: list[str], prefix: str) -> Iterator[tuple[int, pa.Table]]:
    """Each group that may hold image_ids that begin with `prefix`, as (group, those rows); others are not read."""
    for group in range(file.metadata.num_row_groups):
        ids = file.metadata.row_group(group).column(0).statistics  # image_id is the first column of each such file
        ranged = prefix and ids is not None and ids.has_min_max
        if ranged and (ids.max < prefix or ids.min >= prefix + AFTER_HEX):
            continue
        table = file.read_row_group(group, columns=columns, use_threads=False)
        yield group, table.filter(_begins(table, prefix)) if prefix else table


def _begins(table: pa.Table, prefix: str) -> pa.ChunkedArray:
    return pc.starts_with(table["image_id"], prefix)


@dataclass(frozen=True)
class _Origins:
    """Where the user keeps images: `places`, aligned with their sorted `ids`."""

    ids: npt.NDArray[np.bytes_]
    places: pa.ChunkedArray

    def of(self, image_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """The place of each image, null where it is unknown."""
        wanted = fixed_width(image_ids, self.ids.itemsize)
        if wanted is None or not len(self.ids):
            return pa.chunked_array([pa.nulls(len(image_ids), pa.string())])
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return self.places.take(pa.array(at, mask=self.ids[at] != wanted))


def _origins(manifest: pq.ParquetFile | None, prefix: str) -> _Origins:
    tables = [] if manifest is None else [table for _, table in _groups(manifest, ORIGIN_COLUMNS, prefix)]
    table = (
        pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in ORIGIN_COLUMNS})
    )
    ids = fixed_width(table["image_id"], 64)
    return _Origins(np.empty(0, "S64") if ids is None else ids, table["origin"])


def _flat(source: RoundLabels, table: pa.Table, origins: _Origins) -> pa.Table:
    facts, count = source.facts, table.num_rows
    labels = table["label"].to_numpy()
    names = pa.array(facts.class_names, pa.string())
    columns = {
        "image_id": table["image_id"],
        "origin": origins.of(table["image_id"]),
        "run": _same(source.run, count),
        "round": pa.array(np.full(count, facts.round, np.int16)),
        "teacher": _same(facts.teacher, count),
        "version": _same(source.version, count),
        "trust": _same(source.trust.value, count),
        "class": pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), names),
        "confidence": table["confidence"],
        "threshold": _same(facts.threshold, count),
        "cutoff": pa.array(np.asarray(facts.cutoffs, np.float32)[labels]),
        "accepted": table["accepted"],
        "reason": table["reason"],
        "weight": table["weight"],
    }
    columns |= {f"p_{name}": pc.list_element(table["probs"], k) for k, name in enumerate(facts.class_names)}
    return pa.table(columns)


def _same(value: str | None, count: int) -> pa.Array:
    """A column of `count` rows that repeats one text and stores it once."""
    if value is None:
        return pa.nulls(count, _TEXT_SET)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], pa.string()))
